//! `engine view`: a finished run, or a cloud of any size, in the browser.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::view::options::ViewOptions;
use engine::view::serving::view;

use super::options::{self, LimitArgs, ReportArgs};

/// Show a finished run, or a cloud, in the browser.
///
/// The page is that of `engine report`, but asks this program for what it shows: pictures of the views, and of the
/// cloud the parts that are looked at, as fine as they are seen. So clouds may be as large as memory holds (16 bytes a
/// point). It runs until Ctrl-C and writes nothing. docs/VIEW.md says more.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine view out
  engine view scan.ply --max-points 50000000
  engine view out --no-open --port 8000      on another machine, through `ssh -L 8000:localhost:8000 there`")]
pub struct ViewArgs {
    /// The folder with the results of a finished run, or a cloud: any PLY with x, y and z
    #[arg(value_name = "OUT|PLY")]
    shown: PathBuf,
    /// Port to listen at [default: any that is free]
    #[arg(long, value_name = "N", value_parser = options::port, help_heading = "Server")]
    port: Option<u16>,
    /// Address to listen at. One that others may reach takes --anyone, too
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = options::address)]
    #[arg(help_heading = "Server")]
    host: IpAddr,
    /// Let whoever reaches the address of --host look at the run and fetch its files: nobody is asked for a password
    #[arg(long, help_heading = "Server")]
    anyone: bool,
    /// Do not open a browser, only tell the address
    #[arg(long, help_heading = "Server")]
    no_open: bool,
    /// The scene's folder, for photos, if it is no longer where the run has found it
    #[arg(long, value_name = "SCENE", help_heading = "View")]
    scene: Option<PathBuf>,
    /// Show at most this many points of the cloud, taken evenly in its order [default: all]
    #[arg(long, value_name = "N", value_parser = options::positive_integer, help_heading = "View")]
    max_points: Option<usize>,
    /// Longest side of the pictures of views [default: that of the maps, or less so that one has 3 million pixels]
    #[arg(long, value_name = "PX", value_parser = options::side, help_heading = "View")]
    picture_side: Option<usize>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Does it.
pub fn run(args: ViewArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let options = ViewOptions {
        host: args.host,
        anyone: args.anyone,
        port: args.port.unwrap_or(0),
        open: !args.no_open,
        scene: args.scene,
        max_points: args.max_points,
        picture_side: args.picture_side,
    };
    view(&args.shown, &options, progress)
}
