//! Heights, edges and colours against the formula.

use glam::{DMat3, DVec3};

use crate::reader::Tiff;
use crate::site::{self, Mapped, Moved, PIXEL, STILL, Site};

/// Whether the formula has a step nearer than so many cells.
fn is_at_edge(x: f64, y: f64, side: f64, cells: f64) -> bool {
    let own = site::height(x, y);
    let reach = cells * side;
    [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
        .iter()
        .any(|(dx, dy)| (site::height(x + dx * reach, y + dy * reach) - own).abs() > 0.3)
}

/// What a map's heights are off: root of the mean square away from edges, the share of cells with a height in the
/// middle of the site, and the share of cells beside an edge that are on the wrong side of it.
struct Off {
    rmse: f64,
    complete: f64,
    wrong_side: f64,
}

fn off(model: &Tiff, lift: f64) -> Off {
    let (side, _) = model.placed();
    let (mut squares, mut compared, mut there, mut all, mut wrong, mut beside) = (0.0, 0, 0, 0, 0, 0);
    let picture = model.full();
    for (column, row) in (0..picture.height).flat_map(|row| (0..picture.width).map(move |column| (column, row))) {
        let (x, y) = model.place(column, row);
        if x.abs() > 4.0 || y.abs() > 3.5 {
            continue;
        }
        all += 1;
        let Some(found) = picture.height(column, row) else { continue };
        there += 1;
        let truth = site::height(x, y) + lift;
        if !is_at_edge(x, y, side, 2.0) {
            squares += (found - truth).powi(2);
            compared += 1;
        } else if !is_at_edge(x, y, side, 1.0) {
            // The next cell but one is beyond the step: a height of the other side is off by more than a cell.
            beside += 1;
            wrong += i32::from((found - truth).abs() > 0.3);
        }
    }
    assert!(compared > 3000 && beside > 100, "{compared} {beside}");
    Off {
        rmse: (squares / f64::from(compared)).sqrt(),
        complete: f64::from(there) / f64::from(all),
        wrong_side: f64::from(wrong) / f64::from(beside),
    }
}

#[test]
fn heights_are_those_of_the_site_and_edges_stay_where_they_are() {
    let site = Site::new(STILL);
    for gsd in ["0.0667", "0.05", "0.11"] {
        let mapped = site.mapped(&["--gsd", gsd, "--up", "z", "--no-ortho"]);
        let Off { rmse, complete, wrong_side } = off(&mapped.model, 0.0);
        println!("gsd {gsd}: rmse {rmse:.5}, complete {complete:.4}, wrong side {wrong_side:.4}");
        // Maps are floats of exact depths: what is left is that triangles of pixels are flat across the tops' edges.
        assert!(rmse < 0.02 * PIXEL, "{gsd}: {rmse}");
        assert!(complete > 0.99, "{gsd}: {complete}");
        assert!(wrong_side < 0.02, "{gsd}: {wrong_side}");
    }
}

/// Colours against the formula, away from edges and beside them: mean difference, 0..1, and the shares of cells of the
/// ground that are red as roofs are, and of those without a colour.
fn colours(mapped: &Mapped) -> (f64, f64, f64) {
    let ortho = mapped.ortho.as_ref().unwrap();
    let (side, _) = ortho.placed();
    let (mut sum, mut compared, mut red, mut ground, mut none, mut all) = (0.0, 0, 0, 0, 0, 0);
    let picture = ortho.full();
    for (column, row) in (0..picture.height).flat_map(|row| (0..picture.width).map(move |column| (column, row))) {
        let (x, y) = ortho.place(column, row);
        if x.abs() > 4.0 || y.abs() > 3.5 {
            continue;
        }
        let found = picture.at(column, row);
        all += 1;
        if found[3] == 0.0 {
            none += 1;
            continue;
        }
        let truth = site::colour(DVec3::new(x, y, site::height(x, y)));
        if !is_at_edge(x, y, side, 1.5) {
            let differs = (0..3).map(|c| (f64::from(found[c]) / 255.0 - truth[c]).abs()).sum::<f64>() / 3.0;
            (sum, compared) = (sum + differs, compared + 1);
            if truth.x < 0.6 {
                ground += 1;
                red += i32::from(found[0] > 0.75 * 255.0);
            }
        }
    }
    assert!(compared > 5000, "{compared}");
    let share = |part: i32, of: i32| f64::from(part) / f64::from(of);
    (sum / f64::from(compared), share(red, ground), share(none, all))
}

#[test]
fn colours_are_those_of_the_ground_and_roofs_stay_on_their_walls() {
    let site = Site::new(STILL);
    let mapped = site.mapped(&["--gsd", "0.06", "--up", "z"]);
    let (off, red, none) = colours(&mapped);
    println!("colours {off:.5}, red {red:.5}, none {none:.5}");
    // The formula changes by 0.34 a unit, so by 0.02 from cell to cell; photos have steps of 1 / 255.
    assert!(off < 0.006, "{off}");
    // A roof of 2 leans outwards by up to 1.6 units in single photos: 20 cells.
    assert!(red < 0.001, "{red}");
    assert!(none < 0.02, "{none}");
}

#[test]
fn cameras_say_where_up_is_and_so_does_the_coordinate_system() {
    // The site upside down and turned, as reconstructions without a coordinate system lie.
    let turn = DMat3::from_rotation_x(2.8) * DMat3::from_rotation_z(0.3);
    let turned = Site::new(Moved { turn, shift: DVec3::new(3.0, -7.0, 1.0) });
    let mapped = turned.mapped(&["--no-ortho"]);
    let said = mapped.said.lines().find(|line| line.contains("up is ")).unwrap();
    assert!(said.contains("across the plane that the cameras lie in, ") && said.contains("(assumed: "), "{said}");
    let axes = &mapped.report["map_from_scene"][0];
    let up = DVec3::from([0, 1, 2].map(|i| axes[2][i].as_f64().unwrap()));
    // Cameras that fly level within 2 mm of 10 m.
    assert!((turn.transpose() * up).z > 0.999_99, "{up}");
    assert!(
        mapped.said.contains("note: cells of 0.06") && mapped.said.contains(", what a pixel of the maps covers"),
        "{}",
        mapped.said
    );

    // The axes that were found lead from the scene to the map, and so do heights.
    let (shift, matrix) = (
        &mapped.report["map_from_scene"][1],
        DMat3::from_cols_array_2d(&[0, 1, 2].map(|i| [0, 1, 2].map(|j| axes[i][j].as_f64().unwrap()))).transpose(),
    );
    assert_eq!(shift, &serde_json::json!([0.0, 0.0, 0.0]));
    let (mut squares, mut count) = (0.0, 0);
    let picture = mapped.model.full();
    for (column, row) in (0..picture.height).flat_map(|row| (0..picture.width).map(move |column| (column, row))) {
        if let Some(found) = picture.height(column, row) {
            let (x, y) = mapped.model.place(column, row);
            let on_site =
                turn.transpose() * (matrix.transpose() * DVec3::new(x, y, found) - DVec3::new(3.0, -7.0, 1.0));
            if !is_at_edge(on_site.x, on_site.y, 0.067, 2.0) {
                squares += (on_site.z - site::height(on_site.x, on_site.y)).powi(2);
                count += 1;
            }
        }
    }
    assert!(count > 3000 && (squares / f64::from(count)).sqrt() < 0.03 * PIXEL, "{}", squares / f64::from(count));

    // In a projected system up is z; what lies the other way up is refused with what is wrong.
    let message = turned.map(&["--crs", "EPSG:32632"]).failed(3).to_owned();
    assert_eq!(
        message,
        "up: 20 of 20 views look upwards; expected a scene seen from above, and its direction up: --up X,Y,Z, or \
         --up cameras"
    );
    // UTM: floats of heights would do, those of x and y would not.
    let far = Site::new(Moved { turn: DMat3::IDENTITY, shift: DVec3::new(448_262.0, 5_411_932.0, 320.0) });
    let mapped = far.mapped(&["--crs", "EPSG:32632", "--gsd", "0.0625", "--no-ortho"]);
    assert!(mapped.said.contains("note: up is x is east, y north and z up, as in EPSG:32632"), "{}", mapped.said);
    let (_, [left, top]) = mapped.model.placed();
    assert!((left / 0.0625).fract() == 0.0 && (top / 0.0625).fract() == 0.0);
    let keys = &mapped.model.full().numbers[&34735];
    assert_eq!(keys[12..], [3072.0, 0.0, 1.0, 32632.0]);
    let (column, row) = (((448_262.0 - left) / 0.0625) as usize, ((top - 5_411_932.0) / 0.0625) as usize);
    let found = mapped.model.full().height(column, row).unwrap();
    // A float near 320 has steps of 3e-5.
    assert!((found - 320.0 - site::height(0.03, 0.03)).abs() < 0.01, "{found}");
}
