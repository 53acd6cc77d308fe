//! Points that are made tile by tile are those of the whole cloud, whatever the tiles are.

use std::collections::BTreeSet;

use engine::files::ply::Point;
use engine::fusion::funnel::Funnel;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{Dynamic, FusionOptions, Guard, Method, Reprojection};
use engine::fusion::spilled::{Budget, Spilled, Spilling};
use engine::fusion::tile::{Depths, Frustum, Reach, Tile};
use engine::fusion::tiled::{Outcome, Pixel, Task, TilePoint, explained_share, fuse_tile};
use engine::fusion::view::FusionView;

use super::fusion::{fusion_views, rough_views};
use super::streaming::spoilt_views;
use super::*;

const BUDGET: Budget = Budget { depths: 100_000, windows: 20_000, pixels: 1000 };

/// All views, put aside in another order than theirs.
fn put_aside(views: &[FusionView], options: &FusionOptions) -> Spilling {
    let folder = tempfile::tempdir().unwrap();
    let facts = views.iter().map(FusionView::facts).collect();
    let mut spilling = Spilling::of_some(folder.path(), options, facts).unwrap();
    for at in (0..views.len()).rev() {
        assert!(!spilling.has(at));
        spilling.add_at(&[at], vec![views[at].clone()]).unwrap();
    }
    // The scratch files of the clouds have no names, but need a folder.
    std::mem::forget(folder);
    spilling
}

fn only(views: &Spilling, takes_part: impl Fn(usize) -> bool) -> Spilled {
    let some = (0..views.facts().len()).filter(|at| takes_part(*at)).collect();
    views.only(&some, BUDGET).unwrap()
}

fn made(views: &Spilled, (tile, halo): (Tile, f64), only: Option<&BTreeSet<Pixel>>) -> (Vec<TilePoint>, Outcome) {
    // Those that take part.
    let all = views.views();
    let mut points = Vec::new();
    let mut keep = |some: Vec<TilePoint>| {
        points.extend(some);
        Ok(())
    };
    let task = Task { tile, around: tile.grown(halo), only, views: &all };
    let outcome = fuse_tile(views, task, &mut keep).unwrap();
    (points, outcome)
}

/// The points of a tile, whatever halo they need, in the order of their pixels.
fn of_tile(views: &Spilled, tile: Tile, halo: f64, opened: &mut usize) -> (Vec<TilePoint>, Vec<Funnel>) {
    let (mut points, Outcome { mut funnels, mut open }) = made(views, (tile, halo), None);
    let mut wider = halo;
    while !open.is_empty() {
        *opened += open.len();
        wider *= 2.0;
        let only: BTreeSet<Pixel> = open.iter().map(|(pixel, _)| *pixel).collect();
        let around = Tile::around(open.iter().map(|(_, point)| *point));
        let (more, outcome) = made(views, (around, wider), Some(&only));
        points.extend(more);
        for (funnel, more) in funnels.iter_mut().zip(&outcome.funnels) {
            *funnel = Funnel::sum([&*funnel, more]);
        }
        open = outcome.open;
    }
    points.sort_by_key(|point| point.of);
    (points, funnels)
}

/// Space cut at the quantiles of points, into so many tiles.
fn cut(tile: Tile, mut points: Vec<DVec3>, count: usize) -> Vec<Tile> {
    if count == 1 {
        return vec![tile];
    }
    let around = Tile::around(points.iter().copied());
    let size = (around.high - around.low).to_array();
    let axis = (0..3).max_by(|a, b| size[*a].total_cmp(&size[*b])).unwrap();
    points.sort_by(|a, b| a[axis].total_cmp(&b[axis]));
    let (below, middle) = (count / 2, points.len() * (count / 2) / count);
    let [low, high] = tile.split(axis, points[middle][axis]);
    let above = points.split_off(middle);
    [cut(low, points, below), cut(high, above, count - below)].concat()
}

#[track_caller]
fn assert_same(views: &[FusionView], options: &FusionOptions, least_points: usize) -> usize {
    let whole = fuse(views, options).unwrap();
    assert!(whole.points.len() > least_points, "{} points", whole.points.len());
    let positions: Vec<DVec3> = whole.points.iter().map(|point| point.position.into()).collect();
    let share = explained_share(options).unwrap_or(0.0);
    let most = views.iter().map(|view| Reach::most(&view.facts(), (share, 0.0), 600.0)).fold(0.0, f64::max);
    let aside = put_aside(views, options);
    let spilled = only(&aside, |_| true);
    let mut opened = 0;
    for count in [1, 2, 7, 40] {
        let tiles = cut(Tile::EVERYWHERE, positions.clone(), count);
        assert_eq!(tiles.len(), count);
        assert!(positions.iter().all(|point| tiles.iter().filter(|tile| tile.has(*point)).count() == 1));
        let halo = if explained_share(options).is_some() { 0.7 * most } else { 0.0 };
        let made = tiles.iter().map(|tile| of_tile(&spilled, *tile, halo, &mut opened));
        let (points, funnels): (Vec<_>, Vec<_>) = made.unzip();
        let mut points = points.concat();
        points.sort_by_key(|point| point.of);
        let points: Vec<Point> = points.into_iter().map(|point| point.point).collect();
        assert!(points == whole.points, "{count} tiles: {} of {} points", points.len(), whole.points.len());
        for (at, view) in views.iter().enumerate() {
            let funnel = Funnel::sum(funnels.iter().map(|funnels| &funnels[at]));
            let specks = aside.specks(at);
            let (pixels, in_range) = (view.depth.data.len(), funnel.in_range + specks);
            let funnel = Funnel { pixels, in_range, specks, ..funnel };
            assert_eq!(funnel, whole.funnels[at], "{count} tiles, view {at}");
        }
        println!("{count} tiles, {} points, {opened} asked again", points.len());
    }
    opened
}

#[test]
fn any_tiles_give_the_points_of_the_whole() {
    let views = spoilt_views();
    let reprojection = |constants| FusionOptions::reprojection(0.6, constants);
    let default = Reprojection::default();
    // The halo is too narrow for some, so that they are asked again.
    assert!(assert_same(&views, &reprojection(default), 3000) > 0);
    assert_same(&views, &reprojection(Reprojection { guard: Guard::OFF, ..default }), 3000);
    assert_eq!(assert_same(&views, &reprojection(Reprojection { keep_duplicates: true, ..default }), 10_000), 0);
    assert_same(&views, &FusionOptions { min_confidence: 0.5, method: Method::Dynamic(Dynamic::default()) }, 1000);
    assert_same(&rough_views(23), &FusionOptions { min_confidence: 0.3, ..FusionOptions::default() }, 500);
}

/// A row of cameras that look the same way, at a plane that each sees a part of.
fn row_of_views(count: usize) -> Vec<FusionView> {
    let views = fusion_views(&slanted_plane(), count, 0.0, 4);
    let along = |(at, mut view): (usize, FusionView)| {
        view.camera.t -= view.camera.r * DVec3::X * 100.0 * at as f64;
        let seen = render(&slanted_plane(), view.camera, WIDTH, HEIGHT);
        FusionView { depth: seen.depth, colour: seen.colour, ..view }
    };
    views.into_iter().enumerate().map(along).collect()
}

#[test]
fn views_that_do_not_meet_a_tile_change_nothing_in_it() {
    let views = row_of_views(12);
    let options = FusionOptions::reprojection(0.6, Reprojection::default());
    let whole = fuse(&views, &options).unwrap();
    let positions: Vec<DVec3> = whole.points.iter().map(|point| point.position.into()).collect();
    let aside = put_aside(&views, &options);
    let all = only(&aside, |_| true);
    let depths: Vec<Depths> = views
        .iter()
        .map(|view| Depths::of(view.depth.data.iter().copied().filter(|d| *d > 0.0 && *d < 1e30)))
        .collect();
    let space = Tile::around(positions.iter().copied());
    let mut left_out = 0;
    for tile in cut(space, positions, 12) {
        let halo = 20.0;
        // A view that confirms a point has its own up to two shares of its depth from it.
        let around = tile.grown(2.0 * halo);
        let facts: Vec<_> = views.iter().map(FusionView::facts).collect();
        let meets = |at: usize| {
            let depths = Depths { near: 0.0, ..depths[at].widened(0.05) };
            Frustum::new(&facts[at].camera, facts[at].size, depths).may_meet(&around)
        };
        left_out += (0..views.len()).filter(|at| !meets(*at)).count();
        let some = only(&aside, meets);
        let [all, some] = [&all, &some].map(|views| made(views, (tile, halo), None));
        assert!(all.0 == some.0 && all.1.open == some.1.open && !all.0.is_empty());
    }
    assert!(left_out > 30, "{left_out}");
}

#[test]
fn tiles_share_no_point_and_know_what_is_near() {
    let tile = Tile { low: DVec3::ZERO, high: DVec3::new(1.0, 2.0, f64::INFINITY) };
    assert!(tile.has(DVec3::ZERO) && tile.has(DVec3::new(0.5, 1.9, 1e300)));
    assert!(!tile.has(DVec3::X) && !tile.has(DVec3::new(-1e-300, 0.0, 0.0)));
    let [below, above] = tile.split(1, 0.5);
    let point = DVec3::new(0.0, 0.5, 0.0);
    assert!(!below.has(point) && above.has(point));
    assert!(tile.has_around(DVec3::splat(0.5), DVec3::splat(0.49)));
    assert!(!tile.has_around(DVec3::splat(0.5), DVec3::splat(0.51)));
    assert!(tile.may_have_around(DVec3::splat(-0.5), DVec3::splat(0.5)));
    let sides: engine::fusion::tile::TileSides = tile.into();
    let text = serde_json::to_string(&sides).unwrap();
    assert_eq!(Tile::from(serde_json::from_str::<engine::fusion::tile::TileSides>(&text).unwrap()), tile);
    // A camera at the origin that looks along z, with a field of 90 degrees.
    let camera = arc(1, 0.0, 5.0, WIDTH, HEIGHT)[0];
    let view = FusionView { depth: Map::filled(WIDTH, HEIGHT, 1.0), camera, ..spoilt_views().remove(0) };
    let facts = view.facts();
    let frustum = Frustum::new(&facts.camera, facts.size, Depths { near: 4.0, far: 6.0 });
    let ahead = |depth: f64| camera.unproject(WIDTH as f64 / 2.0, HEIGHT as f64 / 2.0, depth);
    let around = |point: DVec3, by: f64| Tile { low: point - by, high: point + by };
    assert!(frustum.may_meet(&around(ahead(5.0), 0.1)) && frustum.may_meet(&around(ahead(5.0), 100.0)));
    for depth in [-5.0, 3.0, 7.0] {
        assert!(!frustum.may_meet(&around(ahead(depth), 0.1)), "{depth}");
    }
    assert!(!frustum.may_meet(&around(camera.unproject(-40.0, 10.0, 5.0), 0.1)));
    assert!(
        !Frustum::new(&facts.camera, facts.size, Depths::of(std::iter::empty())).may_meet(&around(ahead(5.0), 10.0))
    );
}
