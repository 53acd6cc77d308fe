//! `engine plan`: divides a scene's views into shards, and says what each will take.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result, counted};
use crate::files::folder::{OutputFolder, default_folder, remove};
use crate::files::hash;
use crate::files::known_hashes::KnownHashes;
use crate::files::names::in_json;
use crate::host::memory::readable;
use crate::host::progress::{Progress, duration, print_line};
use crate::manifest::made::difference;
use crate::manifest::rows;
use crate::net::backend::DepthNetwork;
use crate::run::depth::cost;
use crate::run::memory::RunSize;
use crate::run::opening;
use crate::run::options::InferOptions;
use crate::run::plan::{Plan, ViewPlan, Work, plan};
use crate::run::products::{SHARDS, job_of};
use crate::run::schedule::{Job, in_order_of_shared_photos};
use crate::scene::Scene;
use crate::shards::files;
use crate::shards::pace::Pace;
use crate::shards::plan_file::{PLAN, PaceSummary, PlanFile, PlannedShard, PlannedView, divided};
use crate::shards::which::Shard;

/// Bytes of a preview: three panels of at most 600 rows, of which those of photos of real things are hard to compress.
/// In `examples/scene` they take 0.86 MB.
const PREVIEW_BYTES: u64 = 1_000_000;

/// How many shards there are to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Division {
    /// So many.
    Shards(usize),
    /// So many that each takes no longer than this, in seconds, on machines like this one.
    Within(f64),
}

/// What [`make`] is told beside the options of the job.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// How many shards.
    pub division: Division,
    /// The options of the job that were given, by name.
    pub given: Vec<(String, String)>,
    /// Print the files that this shard needs instead of the plan.
    pub files_of: Option<Shard>,
}

/// A job before it is divided: all that is decided without pixels.
pub struct Outline {
    /// Photos and cameras.
    pub scene: Scene,
    /// The views, in the scene's order.
    pub plan: Plan,
    /// The options, with what depends on the network in its place.
    pub options: InferOptions,
    /// What all maps depend on beside the photos.
    job: Fields<String, Value>,
    /// [`PlanFile::views_sha256`].
    views_sha256: String,
}

impl Outline {
    /// Reads the scene and plans all of its views, or those that the options name.
    ///
    /// # Errors
    /// As [`plan`] and [`Scene::open`].
    pub fn new<N: DepthNetwork>(
        scene: &Path,
        network: &N,
        options: &InferOptions,
        progress: &Progress,
    ) -> Result<Self> {
        let (scene, open) = opening::open(scene, &options.open)?;
        Self::of(scene, network, &InferOptions { open, ..options.clone() }, progress)
    }

    /// Plans all views of a scene, or those that the options name.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn of<N: DepthNetwork>(
        mut scene: Scene,
        network: &N,
        options: &InferOptions,
        progress: &Progress,
    ) -> Result<Self> {
        let resolution = options.resolution.min(network.config().resolution);
        let options = InferOptions { resolution, ..options.for_network(network.calibrated()) };
        let plan = plan(&mut scene, &options)?;
        let hashes = KnownHashes::of_folder(Path::new(""), false);
        let work =
            Work { scene: &scene, plan: &plan, options: &options, out: Path::new(""), hashes: &hashes, progress };
        let mut job = job_of(work, network);
        // A scene may have another path on every machine; nor does a map depend on which others are asked for.
        job.remove("scene");
        let views_sha256 = views_sha256(&scene, &plan);
        Ok(Self { scene, plan, options, job, views_sha256 })
    }

    /// The places of the views, in the order in which they are worked on.
    fn order(&self) -> Vec<usize> {
        let job =
            |(place, view): (usize, &ViewPlan)| Job { view: place, photos: view.shown().map(|(p, _)| p).collect() };
        let jobs = self.plan.views.iter().enumerate().map(job).collect();
        in_order_of_shared_photos(jobs).into_iter().map(|job| job.view).collect()
    }

    /// The places of the views in the order that a plan of this job says.
    ///
    /// # Errors
    /// A plan that names other views, or not each once.
    pub fn order_in(&self, plan: &PlanFile, out: &Path) -> Result<Vec<usize>> {
        let name = |place: usize| self.scene.views[self.plan.views[place].view].name.as_str();
        let mut by_name: HashMap<&str, usize> = (0..self.plan.views.len()).map(|place| (name(place), place)).collect();
        // Each is taken once.
        let order: Option<Vec<usize>> = plan.views.iter().map(|view| by_name.remove(view.name.as_str())).collect();
        order.filter(|_| by_name.is_empty()).ok_or_else(|| of_others(out))
    }

    /// The shards with any of these views of the scene, or with any that they share photos with, by number; `order` is
    /// [`Self::order_in`].
    pub fn shards_around(&self, plan: &PlanFile, order: &[usize], places: &BTreeSet<usize>) -> BTreeSet<usize> {
        let of_place = |&place: &usize| {
            let ViewPlan { view, sources, .. } = &self.plan.views[place];
            std::iter::once(view).chain(sources).copied()
        };
        let views: BTreeSet<usize> = places.iter().flat_map(of_place).collect();
        let is_near = |&place: &usize| views.contains(&self.plan.views[place].view);
        let near = |range: Range<usize>| order[range].iter().any(is_near);
        (1..).zip(plan.ranges()).filter(|(_, range)| near(range.clone())).map(|(number, _)| number).collect()
    }

    /// The plan of these views alone.
    pub fn only(&self, places: &[usize]) -> Plan {
        let mut places = places.to_vec();
        places.sort_unstable();
        let views = places.iter().map(|&place| self.plan.views[place].clone()).collect();
        Plan { views, frames: self.plan.frames.clone(), notes: Vec::new() }
    }

    /// Divides it.
    pub fn divide<N: DepthNetwork>(
        &self,
        network: &N,
        (division, pace): (Division, Option<Pace>),
        given: &[(String, String)],
    ) -> PlanFile {
        let order = self.order();
        let levels = self.options.levels;
        let cost_of = |view: &ViewPlan| (0..levels).map(|level| cost(&self.plan, view, level)).sum::<u64>();
        let costs: Vec<u64> = order.iter().map(|&place| cost_of(&self.plan.views[place])).collect();
        let seconds = |view: &ViewPlan| pace.map_or(0.0, |pace| pace.seconds(&self.plan, view, levels));
        let all_seconds: f64 = self.plan.views.iter().map(seconds).sum();
        let shards = match division {
            Division::Shards(shards) => shards,
            Division::Within(limit) => ((all_seconds / limit).ceil() as usize).clamp(1, order.len().max(1)),
        };
        let counts = divided(&costs, shards);
        let mut rest = order.as_slice();
        let mut of_shards = Vec::with_capacity(shards);
        for &views in &counts {
            let (own, left) = rest.split_at(views);
            rest = left;
            let (photos, photo_bytes) = files::photos(&self.scene, &self.plan, own);
            // From zero: the sum of no numbers at all is -0.
            let seconds = own.iter().fold(0.0, |sum, &place| sum + seconds(&self.plan.views[place]));
            let disk = own.iter().map(|&place| self.disk(&self.plan.views[place])).sum();
            let memory = self.memory(own, network);
            of_shards.push(PlannedShard { views, photos, photo_bytes, seconds, memory, disk });
        }
        let views = order.iter().zip(&costs).map(|(&place, &cost)| {
            let name = self.scene.views[self.plan.views[place].view].name.clone();
            PlannedView { name, cost }
        });
        let (program, schema, version) = PlanFile::schema();
        PlanFile {
            program,
            schema,
            version,
            id: self.id(&counts),
            scene: dunce::canonicalize(&self.scene.root).unwrap_or_else(|_| self.scene.root.clone()),
            options: given.to_vec(),
            job: self.job.clone(),
            views_sha256: self.views_sha256.clone(),
            pace: PaceSummary {
                device: network.device(),
                threads: rayon::current_num_threads(),
                seconds_a_view: all_seconds / self.plan.views.len().max(1) as f64,
            },
            views: views.collect(),
            shards: of_shards,
        }
    }

    /// [`PlanFile::id`] of shards with so many views.
    fn id(&self, counts: &[usize]) -> String {
        hash::of_bytes(json!([self.job, self.views_sha256, counts]).to_string().as_bytes())
    }

    /// That a plan is of this job.
    ///
    /// # Errors
    /// Other options or weights, another scene.
    pub fn expect(&self, plan: &PlanFile, out: &Path) -> Result<()> {
        let place = || out.join(PLAN).display().to_string();
        let expected = "the same options and weights for all shards of a plan, or a new plan (engine plan)";
        if plan.job != self.job {
            let found = format!("a plan of another job ({})", difference(&plan.job, &self.job));
            return Err(Error::input(place(), found, expected));
        }
        let counts: Vec<usize> = plan.shards.iter().map(|shard| shard.views).collect();
        if plan.views_sha256 != self.views_sha256 || plan.id != self.id(&counts) {
            return Err(of_others(out));
        }
        Ok(())
    }

    /// Bytes that the maps of these views need at least while they are made.
    fn memory<N: DepthNetwork>(&self, places: &[usize], network: &N) -> u64 {
        if places.is_empty() {
            return 0;
        }
        let plan = self.only(places);
        let (threads, finest) = (rayon::current_num_threads(), self.options.resolution);
        let host = |width, height, planes| network.memory_plan((width, height), planes, threads, finest).peak(0);
        let need = RunSize { finishes: false, ..RunSize::new(&self.scene, &plan, &self.options, &host) }.need();
        need.peak()
    }

    /// Bytes that are written for a view: levels, finished maps, and a preview.
    fn disk(&self, view: &ViewPlan) -> u64 {
        let frame = &self.plan.frames[view.view];
        let pixels = |level: usize| {
            let (width, height) = frame.map_size(level);
            (width * height) as u64
        };
        let finished = if self.options.normals { 8 + 12 } else { 8 };
        (0..self.options.levels).map(|level| 8 * pixels(level)).sum::<u64>() + finished * pixels(0) + PREVIEW_BYTES
    }
}

/// That the plan in a folder is of another scene.
fn of_others(out: &Path) -> Error {
    let found = "a plan of other views, cameras, depth ranges or source views than the scene has here";
    let expected = "the scene as it was planned, or a new plan (engine plan)";
    Error::input(out.join(PLAN).display().to_string(), found, expected)
}

/// A hash of all that the views' maps depend on beside the job and the photos' bytes.
fn views_sha256(scene: &Scene, plan: &Plan) -> String {
    let name = |&view: &usize| scene.views[view].name.as_str();
    let of_view = |view: &ViewPlan| {
        let frame = &plan.frames[view.view];
        let lens = scene.views[view.view].lens.as_ref();
        let of_frame = json!({
            "name": name(&view.view),
            "size": [frame.width, frame.height],
            "camera": [rows(frame.camera.k), rows(frame.camera.r)],
            "translation": frame.camera.t.to_array(),
            "lens": lens.map(|lens| json!([lens.distortion, rows(lens.stored_k)])),
            "face": lens.and_then(|lens| lens.face),
            "sources": view.sources.iter().map(name).collect::<Vec<_>>(),
            "looks": view.looks,
            "check": view.check.iter().map(name).collect::<Vec<_>>(),
            "range": view.range,
            "planes": view.planes,
            "sampling": view.sampling,
        });
        hash::of_bytes(of_frame.to_string().as_bytes())
    };
    let all: Vec<String> = plan.views.iter().map(of_view).collect();
    hash::of_bytes(json!(all).to_string().as_bytes())
}

/// Makes the plan and writes it, or tells what a shard of it needs.
///
/// # Errors
/// A scene that cannot be used, a folder of somebody else, or one in which shards of another plan are at work.
pub fn make<N: DepthNetwork>(
    scene: &Path,
    network: &N,
    options: &InferOptions,
    told: &PlanOptions,
    progress: &Progress,
) -> Result<()> {
    let outline = Outline::new(scene, network, options, progress)?;
    if let Some(shard) = told.files_of {
        return tell_files(scene, &outline, options, shard);
    }
    let mut folder = OutputFolder::of_scene(&options.output, || default_folder(scene), scene)?;
    outline.scene.notes.iter().chain(&outline.plan.notes).for_each(|note| progress.note(note));
    let pace = Pace::measure(network, outline.options.resolution, &outline.plan)?;
    let plan = outline.divide(network, (told.division, Some(pace)), &told.given);
    folder.claim()?;
    let out = folder.path();
    let before = PlanFile::read(out).ok().flatten();
    if let Some(before) = before.filter(|before| before.id != plan.id) {
        progress.note(&format!("{PLAN}: the plan of {} there is replaced", counted(before.shards.len(), "shard")));
        remove_states(out)?;
    }
    plan.write(out)?;
    tell(&plan, out, progress);
    Ok(())
}

/// Prints the files of a shard of the plan that is there.
fn tell_files(scene: &Path, outline: &Outline, options: &InferOptions, shard: Shard) -> Result<()> {
    let out = options.output.out.clone().map_or_else(|| default_folder(scene), Ok)?;
    let plan = PlanFile::expect(&out)?;
    outline.expect(&plan, &out)?;
    if plan.shards.len() != shard.of {
        let found = format!("{} shards, where the plan has {}", shard.of, plan.shards.len());
        return Err(Error::input(format!("--files {shard}"), found, "a shard of the plan"));
    }
    let order = outline.order_in(&plan, &out)?;
    for file in files::of_views(&outline.scene, &outline.plan, &order[plan.range(shard)], &out)? {
        print_line(&file.display().to_string());
    }
    Ok(())
}

/// Removes what the shards of another plan have told.
fn remove_states(out: &Path) -> Result<()> {
    let files = std::fs::read_dir(out.join(SHARDS)).into_iter().flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().contains("-of-")) {
        remove(&file.path(), "remove the state of a shard of another plan")?;
    }
    Ok(())
}

/// The plan in words.
fn tell(plan: &PlanFile, out: &Path, progress: &Progress) {
    const SHOWN: usize = 12;
    let PaceSummary { device, threads, seconds_a_view } = &plan.pace;
    let shards = plan.shards.len();
    let mut text = format!(
        "{} in {}; {} a view on this machine ({device}, {}), {} in all\n\n\
         {:>10} {:>7} {:>7} {:>10} {:>10} {:>10} {:>10}\n",
        counted(plan.views.len(), "view"),
        counted(shards, "shard"),
        duration(*seconds_a_view),
        counted(*threads, "thread"),
        duration(plan.shards.iter().map(|shard| shard.seconds).sum()),
        "shard",
        "views",
        "photos",
        "to read",
        "time",
        "memory",
        "to write",
    );
    for (at, shard) in plan.shards.iter().enumerate().take(SHOWN) {
        let PlannedShard { views, photos, photo_bytes, seconds, memory, disk } = shard;
        let _ = writeln!(
            text,
            "{:>10} {views:>7} {photos:>7} {:>10} {:>10} {:>10} {:>10}",
            format!("{}/{shards}", at + 1),
            readable(*photo_bytes),
            duration(*seconds),
            readable(*memory),
            readable(*disk),
        );
    }
    if shards > SHOWN {
        let _ = writeln!(text, "{:>10} {} has all of them", "...", out.join(PLAN).display());
    }
    let empty = plan.shards.iter().filter(|shard| shard.views == 0).count();
    if empty > 0 {
        progress.note(&format!("{} without a view: there are more than views", counted(empty, "shard")));
    }
    let fields = json!({
        "plan": in_json(&out.join(PLAN)), "id": plan.id, "views": plan.views.len(), "pace": plan.pace,
        "shards": plan.shards,
    });
    progress.summary(text.trim_end(), fields);
}
