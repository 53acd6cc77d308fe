//! `cloud.copc.laz`: Cloud Optimized Point Cloud 1.0, a LAZ file whose chunks are the nodes of an octree, so that
//! viewers read the coarse levels first and of the fine ones what they show.
//!
//! Points have format 7 of LAS 1.4 (colours, and a time that is 0), and the extra bytes of `cloud.laz`. Coordinates are
//! the same whole numbers. The tree's cube begins half a step below the least coordinates, so that no point lies on a
//! side of a node. A record behind the points has every node's place in the tree and in the file.

use std::io::{Cursor, Seek, SeekFrom, Write};

use glam::DVec3;
use las::raw;
use las::raw::point::Flags;
use laz::laszip::{ChunkTable, ChunkTableEntry};
use laz::{LasZipCompressor, LazVlr, LazVlrBuilder};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::export::earth::Placed;
use crate::export::job::{Job, Out, put};
use crate::export::las::{self as files, Grid, Laid, made, squeezed};
use crate::export::octree::{Cube, GRID_BITS, Key, Limits, Node};

/// Point format 7: place, flags, time, colour.
const POINT_FORMAT: u8 = 7;
/// A node is read at once: some ten thousand points are a fraction of a megabyte. 64 million bytes of points are held.
const LIMITS: Limits = Limits { leaf: 40_000, held: 1_200_000 };
/// Bytes of the record that says where the tree is.
const INFO_BYTES: usize = 160;

/// Writes `cloud.copc.laz`.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write(job: &Job) -> Result<()> {
    const NAME: &str = "cloud.copc.laz";
    let cloud = Placed::of(job)?;
    let grid = Grid::of(cloud.bounds()?);
    let crs = cloud.crs.map(|crs| (crs, crs.wkt()));
    if let Some((crs, None)) = &crs {
        job.note(format!(
            "{NAME} names no coordinate system: it would have to be told in words (WKT), which are not known here for \
             EPSG:{}",
            crs.code
        ));
    }
    let vlr = LazVlrBuilder::default().with_point_format(POINT_FORMAT, files::extra_bytes());
    let vlr = vlr.map_err(|e| Error::Bug { place: "LASzip", problem: e.to_string() })?;
    let vlr = vlr.with_variable_chunk_size().build();
    let format = files::format(POINT_FORMAT)?;
    let record = usize::from(format.len());
    let cube = Cube::around(grid.steps(grid.bounds.low), grid.steps(grid.bounds.high), record, LIMITS);
    let mut records = vec![
        files::record(("copc", 1), "COPC info VLR", vec![0; INFO_BYTES]),
        files::laz_record(&vlr)?,
        files::extra_record(),
    ];
    // A text that ends in 0.
    let in_words = |wkt: &str| [wkt.as_bytes(), &[0]].concat();
    let of_crs = |wkt: &str| files::record(("LASF_Projection", 2112), "coordinate system (WKT)", in_words(wkt));
    records.extend(crs.and_then(|(_, wkt)| wkt).map(|wkt| of_crs(&wkt)));
    let header = files::header(job, &grid, &records, (POINT_FORMAT, true))?;
    let head = files::head(&header, &records)?;
    // First of one return; class 1, which is none.
    let mut laid = Laid::new(&grid, format, Flags::ThreeByte(0x11, 0, 1));
    job.write(NAME, |out| {
        put(out.write_all(&head))?;
        let mut nodes = Nodes::begin(out, vlr, record)?;
        let mut source =
            |take: &mut dyn FnMut(&[u8]) -> Result<()>| cloud.each(|point| laid.bytes(point).and_then(&mut *take));
        cube.sort((cloud.count(), &mut source), job.out(), &mut |some| nodes.put(some))?;
        nodes.end((&grid, &cube), header)
    })
}

/// Where a node is in the file.
struct Entry {
    key: Key,
    start: u64,
    bytes: i32,
    points: i32,
}

/// Nodes on their way into the file.
struct Nodes<'a, 'b> {
    out: Out<'a, 'b>,
    vlr: LazVlr,
    /// Bytes of a point.
    record: usize,
    /// Where the file says where the table of chunks is.
    table_at: u64,
    table: ChunkTable,
    entries: Vec<Entry>,
    at: u64,
}

impl<'a, 'b> Nodes<'a, 'b> {
    fn begin(out: Out<'a, 'b>, vlr: LazVlr, record: usize) -> Result<Self> {
        let mut table_at = 0;
        put(out.stream_position().map(|at| table_at = at))?;
        put(out.write_all(&(-1i64).to_le_bytes()))?;
        let at = table_at + 8;
        Ok(Self { out, vlr, record, table_at, table: ChunkTable::default(), entries: Vec::new(), at })
    }

    /// Compresses nodes, each as a chunk, and writes them.
    fn put(&mut self, nodes: Vec<Node>) -> Result<()> {
        let chunks: Vec<Result<Vec<u8>>> = nodes.par_iter().map(|node| compressed(&node.records, &self.vlr)).collect();
        for (Node { key, records }, chunk) in nodes.into_iter().zip(chunks) {
            let (chunk, points) = (chunk?, records.len() / self.record);
            put(self.out.write_all(&chunk))?;
            let (start, bytes) = (if points > 0 { self.at } else { 0 }, chunk.len() as i32);
            self.entries.push(Entry { key, start, bytes, points: points as i32 });
            self.at += chunk.len() as u64;
            if points > 0 {
                self.table.push(ChunkTableEntry { point_count: points as u64, byte_count: chunk.len() as u64 });
            }
        }
        Ok(())
    }

    /// Writes what stands behind the points, and in the front where that is.
    fn end(mut self, (grid, cube): (&Grid, &Cube), mut header: raw::Header) -> Result<()> {
        let table_starts = self.at;
        put(self.table.write_to(&mut *self.out, &self.vlr))?;
        let mut late_starts = 0;
        put(self.out.stream_position().map(|at| late_starts = at))?;
        // Coarse nodes first.
        self.entries.sort_by_key(|entry| entry.key);
        let mut tree = Vec::with_capacity(self.entries.len() * 32);
        for Entry { key, start, bytes, points } in &self.entries {
            tree.extend(key.iter().flat_map(|v| v.to_le_bytes()));
            tree.extend(start.to_le_bytes());
            tree.extend([bytes, points].into_iter().flat_map(|v| v.to_le_bytes()));
        }
        let bytes = tree.len() as u64;
        let late = files::record(("copc", 1000), "EPT hierarchy", tree);
        let late_head = (late.len(true) as u64) - bytes;
        let mut written = Vec::new();
        made(late.into_raw(true).and_then(|late| late.write_to(&mut written)))?;
        put(self.out.write_all(&written))?;

        let half = 0.5 * 2f64.powi(cube.bits as i32);
        let centre = grid.offset + (DVec3::from(cube.low.map(f64::from)) - 0.5 + half) * grid.scale;
        let spacing = 2.0 * half * grid.scale / f64::from(1u32 << GRID_BITS);
        let mut info = Vec::with_capacity(INFO_BYTES);
        info.extend([centre.x, centre.y, centre.z, half * grid.scale, spacing].iter().flat_map(|v| v.to_le_bytes()));
        info.extend([late_starts + late_head, bytes].iter().flat_map(|v| v.to_le_bytes()));
        info.resize(INFO_BYTES, 0);
        header.evlr = Some(raw::header::Evlr { start_of_first_evlr: late_starts, number_of_evlrs: 1 });
        // The record of the tree is the first behind the header, and `info` its data.
        let head = files::head(&header, &[files::record(("copc", 1), "COPC info VLR", info)])?;
        let places = [(self.table_at, (table_starts as i64).to_le_bytes().to_vec()), (0, head)];
        for (at, bytes) in places {
            put(self.out.seek(SeekFrom::Start(at)).and_then(|_| self.out.write_all(&bytes)))?;
        }
        Ok(())
    }
}

/// A chunk of its own.
fn compressed(records: &[u8], vlr: &LazVlr) -> Result<Vec<u8>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let mut chunk = squeezed(LasZipCompressor::new(Cursor::new(Vec::new()), vlr.clone()))?;
    put(chunk.compress_many(records).and_then(|()| chunk.finish_current_chunk()))?;
    let mut bytes = chunk.into_inner().into_inner();
    // The place of a table, which the file has once.
    bytes.drain(..8);
    Ok(bytes)
}
