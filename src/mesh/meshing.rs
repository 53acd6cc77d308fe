//! `engine mesh`: a finished run's maps into one mesh.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result, counted};
use crate::export::cloud::Cloud;
use crate::export::exporting::claim;
use crate::export::job::Job;
use crate::export::options::ExportOptions;
use crate::export::photos::Photos;
use crate::export::results::Results;
use crate::files::folder::{remove, write_json};
use crate::files::hash;
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::progress::{Progress, duration};
use crate::host::trace::Clock;
use crate::manifest::MANIFEST;
use crate::mesh::finished::Finished;
use crate::mesh::folder::{MESHES, out_of};
use crate::mesh::gather::Surface;
use crate::mesh::grid::Grid;
use crate::mesh::options::{Holes, MeshFormat, MeshOptions, Reduced};
use crate::mesh::plan::Plan;
use crate::mesh::poisson::Pycolmap;
use crate::mesh::spool::Spool;
use crate::mesh::triangles::Triangles;
use crate::mesh::{charts, colour, gather, glb, holes, obj, painting, parts, ply, simplify};

/// What tells of a mesh in its folder.
pub const REPORT: &str = "mesh.json";
/// All files of meshes.
const FILES: [MeshFormat; 3] = [MeshFormat::Ply, MeshFormat::Obj, MeshFormat::Glb];

/// The content of [`REPORT`].
#[derive(Debug, Default, Serialize)]
struct Report {
    program: &'static str,
    version: &'static str,
    /// The run's folder.
    run: String,
    /// SHA-256 of the run's manifest.
    manifest_sha256: String,
    /// How it was asked for.
    options: Fields<String, Value>,
    /// What was assumed or must be known.
    notes: Vec<String>,
    /// Side of a voxel, in scene units.
    voxel: f64,
    /// Blocks of 8 x 8 x 8 voxels that surfaces touch, and the slabs that they were worked on in.
    blocks: usize,
    slabs: usize,
    /// Tiles that it was made in, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    tiles: Option<usize>,
    /// What is written.
    vertices: usize,
    triangles: usize,
    /// Connected pieces.
    pieces: usize,
    /// Edges with one triangle.
    border_edges: usize,
    /// Every edge has one or two triangles that agree on the outside, and around each vertex is one fan.
    manifold: bool,
    /// Manifold, and without a border.
    closed: bool,
    seconds: Fields<String, Value>,
    /// Relative to the folder.
    files: Vec<String>,
}

/// Makes the mesh of the run in `folder`.
///
/// # Errors
/// A folder that is not that of a finished run, maps or photos that cannot be read, files that cannot be written, a
/// mesh that does not fit into memory, [`Error::Nothing`] where there is no surface, [`Error::Interrupted`].
pub fn mesh(folder: &Path, options: &MeshOptions, progress: &Progress) -> Result<()> {
    mesh_of(folder, options, progress, |making| match (options.poisson, making.pycolmap) {
        (Some(trim), Some(pycolmap)) => poisson(making, (pycolmap, trim)),
        _ => gather::whole(making.job, making.plan, options.voxel, |stage| making.clock.lap(stage)),
    })
}

/// What a surface is made with.
pub struct Making<'a, 'b> {
    /// The run, and where it goes.
    pub job: &'a Job<'b>,
    /// The room that there is.
    pub plan: &'a Plan,
    /// COLMAP, where it is to make the surface.
    pub pycolmap: Option<&'a Pycolmap>,
    /// How long its stages take.
    pub clock: &'a mut Clock,
}

/// Makes a mesh of the surface that `surface` gives.
///
/// # Errors
/// As [`mesh`].
pub fn mesh_of(
    folder: &Path,
    options: &MeshOptions,
    progress: &Progress,
    surface: impl FnOnce(Making) -> Result<Surface>,
) -> Result<()> {
    let results = Results::open_idle(folder)?;
    let out = out_of(folder, options);
    let mut claimed = claim(&MESHES, folder, &out, options.output.force)?;
    progress.event(
        "start",
        json!({ "command": "mesh", "version": env!("CARGO_PKG_VERSION"), "run": in_json(folder),
                "out": in_json(&out), "formats": options.to.iter().map(|format| format.file()).collect::<Vec<_>>() }),
    );
    let export = ExportOptions { filtered_depth: true, scene: options.scene.clone(), ..ExportOptions::default() };
    let cloud = poisson_cloud(&results, &export, options)?;
    let job = Job::new(&results, cloud.as_ref(), &export, (&out, progress));
    let pycolmap = options.poisson.map(|_| Pycolmap::find()).transpose()?;
    // Before any work: a scene that is gone, and a run that does not fit.
    let photos = options.colours.then(|| Photos::open(&job)).transpose()?;
    let plan = Plan::new(&results, (photos.as_ref().map_or(0, Photos::bytes), options.texture), options.memory)?;
    claimed.claim()?;
    claimed.note().into_iter().for_each(|note| job.note(note));

    let mut clock = Clock::start();
    let Surface { grid, mut mesh, blocks, slabs, tiles } =
        surface(Making { job: &job, plan: &plan, pycolmap: pycolmap.as_ref(), clock: &mut clock })?;
    let pieces = refine(&job, options, grid, &mut mesh)?;
    clock.lap("refine");
    let colours = match &photos {
        Some(photos) => {
            let (colours, unseen) = colour::colours(&job, photos, grid, &mesh)?;
            if unseen > 0 {
                job.note(format!("{} shown by no photo: their neighbours' colours", counted_vertices(unseen)));
            }
            Some(colours)
        }
        None => None,
    };
    clock.lap("colours");
    let painted = match (&photos, &colours) {
        (Some(photos), Some(colours)) if options.texture => {
            let charts = charts::choose(&job, grid, &mesh)?;
            let texture = painting::paint(&job, photos, grid, &mesh, (&charts, colours))?;
            job.note(format!(
                "a texture of {} x {} pixels in {}",
                texture.size.0,
                texture.size.1,
                counted(charts.views.len(), "piece")
            ));
            clock.lap("texture");
            Some(texture)
        }
        _ => None,
    };
    let edges = mesh.count_edges();
    let mut finished = Finished::new(mesh, grid.origin, colours, options.ply_offset);
    finished.texture = painted;
    for format in FILES {
        match options.to.contains(&format) {
            true => match format {
                MeshFormat::Ply => ply::write(&job, &finished)?,
                MeshFormat::Obj => obj::write(&job, &finished)?,
                MeshFormat::Glb => glb::write(&job, &finished)?,
            },
            // Another mesh than this one.
            false => remove(&out.join(format.file()), "remove the file of an earlier mesh")?,
        }
    }
    if !(options.texture && options.to.contains(&MeshFormat::Obj)) {
        for file in [obj::MATERIAL, obj::PICTURE] {
            remove(&out.join(file), "remove the file of an earlier mesh")?;
        }
    }
    clock.lap("write");
    let (files, notes) = job.take();
    let manifold = edges.bad == 0;
    let report = Report {
        program: "engine",
        version: env!("CARGO_PKG_VERSION"),
        run: in_json(&dunce::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())),
        manifest_sha256: hash::of_file(&folder.join(MANIFEST))?,
        options: said(options),
        notes,
        vertices: finished.triangles.positions.len(),
        triangles: finished.triangles.faces.len(),
        border_edges: edges.border,
        manifold,
        closed: manifold && edges.border == 0,
        seconds: clock.seconds(),
        files,
        voxel: grid.side,
        blocks,
        slabs,
        tiles,
        pieces,
    };
    write_json(&out.join(REPORT), "write the report of the mesh", &report)?;
    let text = format!(
        "mesh of {} and {} in {} into {}",
        counted(report.vertices, "vertex").replace("vertexs", "vertices"),
        counted(report.triangles, "triangle"),
        duration(clock.total()),
        out.display()
    );
    let mut fields = serde_json::to_value(&report).unwrap_or_default();
    fields["out"] = in_json(&out).into();
    progress.summary(&text, fields);
    Ok(())
}

fn counted_vertices(count: usize) -> String {
    if count == 1 { "1 vertex is".into() } else { format!("{count} vertices are") }
}

/// The run's cloud, where a mesh is made of it.
fn poisson_cloud(results: &Results, export: &ExportOptions, options: &MeshOptions) -> Result<Option<Cloud>> {
    if options.poisson.is_none() {
        return Ok(None);
    }
    let none = || {
        let found = "a run without a cloud (--depth-only)";
        Error::input(results.folder().display().to_string(), found, "a run with fused.ply, or no --poisson")
    };
    Cloud::open(results, export)?.map(|(cloud, _)| cloud).ok_or_else(none).map(Some)
}

/// The surface that COLMAP makes of the cloud.
fn poisson(Making { job, plan, clock, .. }: Making, (pycolmap, trim): (&Pycolmap, f64)) -> Result<Surface> {
    let mut spool = Spool::of_run(job, job.out())?;
    clock.lap("filter");
    let grid = gather::grid(job, None, &mut spool)?;
    drop(spool);
    job.note(format!(
        "the surface is pycolmap {}'s Poisson meshing of fused.ply, trim {trim}; what it takes of memory is its own",
        pycolmap.version
    ));
    let mut mesh = pycolmap.mesh(job, job.cloud()?, grid.origin, trim)?;
    clock.lap("poisson");
    if mesh.faces.is_empty() {
        return Err(Error::Nothing(format!(
            "{}: no surface: Poisson meshing has trimmed all of it away; try a smaller --poisson=TRIM",
            job.results.folder().display()
        )));
    }
    plan.expect_room(mesh.faces.len().div_ceil(2), grid.side)?;
    mesh.make_manifold();
    clock.lap("surface");
    Ok(Surface { grid, mesh, blocks: 0, slabs: 0, tiles: None })
}

/// Drops small pieces, closes holes and reduces the mesh, as far as that is asked for; how many pieces are left.
fn refine(job: &Job, options: &MeshOptions, grid: Grid, mesh: &mut Triangles) -> Result<usize> {
    let found = parts::drop_small(mesh, options.min_component);
    if found.dropped > 0 {
        job.note(format!(
            "{} of fewer than {} triangles dropped, with {} in all (--min-component)",
            counted(found.dropped, "piece"),
            options.min_component,
            counted(found.dropped_triangles, "triangle")
        ));
    }
    if mesh.faces.is_empty() {
        let least = options.min_component;
        let why = format!("every piece has fewer than {least} triangles; try a smaller --min-component or --voxel");
        return Err(gather::nothing(job, &why));
    }
    interrupt::check()?;
    let longest = match options.close_holes {
        Holes::Open => None,
        Holes::UpToVoxels(voxels) => Some(voxels * grid.side),
        Holes::UpTo(length) => Some(length),
    };
    if let Some(longest) = longest {
        let holes::Closed { closed, longer, entangled } = holes::close(mesh, longest);
        let more = match entangled {
            0 => String::new(),
            many => format!("; {many} could not be closed without edges of more than two triangles"),
        };
        job.note(format!(
            "{} closed; {longer} with a border longer than {longest:.4e} stay open{more}",
            counted(closed, "hole")
        ));
    }
    interrupt::check()?;
    if let Some(wanted) = options.reduced.of(mesh.faces.len()) {
        let before = mesh.faces.len();
        simplify::simplify(mesh, wanted);
        let moved = format!("{before} triangles reduced to {}", mesh.faces.len());
        let more = if mesh.faces.len() > wanted { "; its shape allows no fewer" } else { "" };
        job.note(format!("{moved}{more}"));
    }
    Ok(found.kept)
}

/// Options that change what is written.
fn said(options: &MeshOptions) -> Fields<String, Value> {
    let fields = json!({
        "voxel": options.voxel,
        "poisson": options.poisson,
        "min_component": options.min_component,
        "close_holes": match options.close_holes {
            Holes::Open => Value::Null,
            Holes::UpToVoxels(voxels) => json!({ "voxels": voxels }),
            Holes::UpTo(length) => json!({ "length": length }),
        },
        "triangles": match options.reduced { Reduced::To(count) => json!(count), _ => Value::Null },
        "simplify": match options.reduced { Reduced::By(share) => json!(share), _ => Value::Null },
        "colours": options.colours,
        "texture": options.texture,
        "ply_offset": options.ply_offset.to_string(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}
