//! `cloud.copc.laz`: Cloud Optimized Point Cloud 1.0, a LAZ file whose chunks are the nodes of an octree, so that
//! viewers read the coarse levels first and of the fine ones what they show.
//!
//! Points have format 7 of LAS 1.4 (colours, and a time that is 0), and the extra bytes of `cloud.laz`. Coordinates are
//! the same whole numbers. The tree's cube begins half a step below the least coordinates, so that no point lies on a
//! side of a node. A record behind the points has every node's place in the tree and in the file.

use std::io::{Cursor, Seek, SeekFrom, Write};

use glam::DVec3;
use laz::laszip::{ChunkTable, ChunkTableEntry};
use laz::{LasZipCompressor, LazVlr, LazVlrBuilder};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::export::job::{Job, Out, put};
use crate::export::las::{Form, Grid, HEADER_BYTES, RECORD_HEAD, Record, extra_bytes, extra_records, header, padded};
use crate::export::las::{put_rest, squeezed};
use crate::export::octree::{Cube, GRID_BITS, Key, Limits, Node};
use crate::files::ply::Point;

/// Point format 7: place, flags, time, colour.
const POINT_FORMAT: u8 = 7;
/// Bytes of that.
const PLAIN_BYTES: u16 = 36;
/// A node is read at once: some ten thousand points are a fraction of a megabyte. 64 million bytes of points are held.
const LIMITS: Limits = Limits { leaf: 40_000, held: 1_200_000 };
/// Bytes of the record that says where the tree is.
const INFO_BYTES: usize = 160;
/// The head of a record behind the points.
const LATE_HEAD: usize = 60;
/// Where the header says where such records begin, and how many they are.
const LATE_AT: u64 = 235;

/// Writes `cloud.copc.laz`.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write(job: &Job) -> Result<()> {
    const NAME: &str = "cloud.copc.laz";
    let cloud = job.cloud()?;
    let grid = Grid::of(cloud.bounds()?);
    let crs = job.options.crs.map(|crs| (crs, crs.wkt()));
    if let Some((crs, None)) = crs {
        job.note(format!(
            "{NAME} names no coordinate system: it would have to be told in words (WKT), which are not known here for \
             EPSG:{}",
            crs.code
        ));
    }
    let vlr = LazVlrBuilder::default().with_point_format(POINT_FORMAT, extra_bytes());
    let vlr = vlr.map_err(|e| Error::Bug { place: "LASzip", problem: e.to_string() })?;
    let vlr = vlr.with_variable_chunk_size().build();
    let record = usize::from(PLAIN_BYTES + extra_bytes());
    let cube = Cube::around(grid.steps(grid.bounds.low), grid.steps(grid.bounds.high), record, LIMITS);
    let mut of_laszip = Vec::new();
    put(vlr.write_to(&mut of_laszip))?;
    let mut records = vec![
        Record { user: "copc", id: 1, text: "COPC info VLR", data: vec![0; INFO_BYTES] },
        Record { user: LazVlr::USER_ID, id: LazVlr::RECORD_ID, text: LazVlr::DESCRIPTION, data: of_laszip },
        Record { user: "LASF_Spec", id: 4, text: "extra bytes", data: extra_records() },
    ];
    // A text that ends in 0.
    let in_words = |wkt: &str| [wkt.as_bytes(), &[0]].concat();
    let of_crs =
        |wkt| Record { user: "LASF_Projection", id: 2112, text: "coordinate system (WKT)", data: in_words(wkt) };
    records.extend(crs.and_then(|(_, wkt)| wkt).map(of_crs));
    let form = Form { format: POINT_FORMAT, plain_bytes: PLAIN_BYTES, compressed: true };
    let header = header(job, &grid, &records, form);
    job.write(NAME, |out| {
        put(out.write_all(&header))?;
        for record in &records {
            put(out.write_all(&record.bytes()))?;
        }
        let mut nodes = Nodes::begin(out, vlr)?;
        let mut bytes = Vec::with_capacity(record);
        let mut source = |take: &mut dyn FnMut(&[u8]) -> Result<()>| {
            cloud.each(|point| {
                put_point(&grid, point, &mut bytes);
                take(&bytes)
            })
        };
        cube.sort((cloud.count, &mut source), job.out(), &mut |some| nodes.put(some))?;
        nodes.end((&grid, &cube))
    })
}

/// The record of a point.
fn put_point(grid: &Grid, point: &Point, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend(grid.steps(point.position.into()).iter().flat_map(|v| v.to_le_bytes()));
    // Intensity 0; first of one return; no flags; class 1, which is none; user data, angle, source and time 0.
    bytes.extend([0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0]);
    bytes.extend([0; 8]);
    put_rest(point, bytes);
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
    /// Where the file says where the table of chunks is.
    table_at: u64,
    table: ChunkTable,
    entries: Vec<Entry>,
    at: u64,
}

impl<'a, 'b> Nodes<'a, 'b> {
    fn begin(out: Out<'a, 'b>, vlr: LazVlr) -> Result<Self> {
        let mut table_at = 0;
        put(out.stream_position().map(|at| table_at = at))?;
        put(out.write_all(&(-1i64).to_le_bytes()))?;
        let at = table_at + 8;
        Ok(Self { out, vlr, table_at, table: ChunkTable::default(), entries: Vec::new(), at })
    }

    /// Compresses nodes, each as a chunk, and writes them.
    fn put(&mut self, nodes: Vec<Node>) -> Result<()> {
        let record = usize::from(PLAIN_BYTES + extra_bytes());
        let chunks: Vec<Result<Vec<u8>>> = nodes.par_iter().map(|node| compressed(&node.records, &self.vlr)).collect();
        for (Node { key, records }, chunk) in nodes.into_iter().zip(chunks) {
            let (chunk, points) = (chunk?, records.len() / record);
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
    fn end(mut self, (grid, cube): (&Grid, &Cube)) -> Result<()> {
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
        let mut head = vec![0; 2];
        head.extend(padded::<16>("copc"));
        head.extend(1000u16.to_le_bytes());
        head.extend((tree.len() as u64).to_le_bytes());
        head.extend(padded::<32>("EPT hierarchy"));
        put(self.out.write_all(&head))?;
        put(self.out.write_all(&tree))?;

        let half = 0.5 * 2f64.powi(cube.bits as i32);
        let centre = grid.offset + (DVec3::from(cube.low.map(f64::from)) - 0.5 + half) * grid.scale;
        let spacing = 2.0 * half * grid.scale / f64::from(1u32 << GRID_BITS);
        let mut info = Vec::with_capacity(INFO_BYTES);
        info.extend([centre.x, centre.y, centre.z, half * grid.scale, spacing].iter().flat_map(|v| v.to_le_bytes()));
        info.extend([late_starts + LATE_HEAD as u64, tree.len() as u64].iter().flat_map(|v| v.to_le_bytes()));
        info.resize(INFO_BYTES, 0);
        let mut late = late_starts.to_le_bytes().to_vec();
        late.extend(1u32.to_le_bytes());
        let places = [
            (self.table_at, (table_starts as i64).to_le_bytes().to_vec()),
            ((HEADER_BYTES + RECORD_HEAD) as u64, info),
            (LATE_AT, late),
        ];
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
