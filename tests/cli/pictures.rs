//! `engine infer --show` in a pseudo-terminal that answers as terminals do.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;

use crate::plane_scene;
use crate::program::{command, engine, text};

const SMALL: [&str; 8] = ["--levels", "1", "--planes", "8", "--views", "2", "--depth-only", "--show"];

/// Runs the program in a terminal that gives this answer when it is asked for its attributes, and gives all that the
/// terminal was sent.
fn in_terminal(words: &[&str], answer: &str) -> String {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the two numbers are filled; no name, modes or size are asked for or given.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) }, 0);
    // SAFETY: both were opened just now, and are nobody else's.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut program = command(words);
    program.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(Stdio::from(slave));
    // SAFETY: the two calls may be made between fork and exec. The terminal becomes that of a new session.
    unsafe {
        program.pre_exec(|| match libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1 {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = program.spawn().unwrap();
    // Its copies of the terminal's other end: without them reading ends with the program.
    drop(program);
    let (mut sent, mut some, mut is_answered) = (Vec::new(), [0; 4096], false);
    while let Ok(count @ 1..) = master.read(&mut some) {
        sent.extend(&some[..count]);
        if !is_answered && String::from_utf8_lossy(&sent).contains("\x1b[c") {
            is_answered = true;
            master.write_all(answer.as_bytes()).unwrap();
        }
    }
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(child.wait().unwrap().success(), "{sent}");
    sent
}

/// A picture as a terminal decodes it: the text of all pieces between `begin` (with what stands before the last `:` or
/// `;` there) and `end`, as base64 of a PNG.
fn decoded(sent: &str, begin: &str, separator: char, end: &str) -> image::RgbImage {
    let pieces = sent.split(begin).skip(1).map(|piece| piece.split(end).next().unwrap());
    let text: String = pieces.map(|piece| piece.rsplit(separator).next().unwrap()).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(&text).unwrap();
    image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).unwrap().to_rgb8()
}

/// Whether it shows something: the view's photo, or at least its depth, in many colours.
fn shows_a_view(picture: &image::RgbImage) -> bool {
    let colours: BTreeSet<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
    picture.width() > 100 && picture.height() > 20 && colours.len() > 100
}

/// Columns of the first band of sixels: each of its colours has them all.
fn columns(band: &str) -> Vec<usize> {
    let of_colour = |text: &str| {
        let (mut columns, mut run) = (0, None::<usize>);
        for letter in text.chars().skip_while(char::is_ascii_digit) {
            match (letter, run) {
                ('!', _) => run = Some(0),
                (digit, Some(so_far)) if digit.is_ascii_digit() => {
                    run = Some(10 * so_far + digit.to_digit(10).unwrap() as usize);
                }
                ('?'..='~', _) => columns += run.take().unwrap_or(1),
                _ => {}
            }
        }
        columns
    };
    band.split('#').skip(1).filter(|text| !text.contains(';')).map(of_colour).collect()
}

#[test]
fn the_last_view_is_shown_in_terminals_that_can() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let out = |name: &str| root.path().join(name);
    let run = |out: &Path, answer: &str| {
        in_terminal(&[&["infer", text(&scene), "-o", text(out), "--view", "00000003"], &SMALL[..]].concat(), answer)
    };
    let sent = run(&out("kitty"), "\x1b_Gi=31;OK\x1b\\\x1b[?62;4;22c");
    // A picture when the level is made, and one with the photo when the view is finished; both are the last of a stage.
    assert_eq!(sent.matches("\x1b_Ga=T,f=100,q=2,").count(), 2, "{sent:?}");
    assert!(!sent.contains("\x1bPq") && sent.contains("00000003"), "{sent:?}");
    let second = sent.rfind("\x1b_Ga=T,").unwrap();
    assert!(shows_a_view(&decoded(&sent[second..], "\x1b_G", ';', "\x1b\\")));
    // What the terminal answers is not shown as if it were typed.
    assert!(!sent.contains("^[_Gi"), "{sent:?}");
    let sent = run(&out("sixel"), "\x1b[?62;4;22c");
    assert!(sent.contains("\x1bPq\"1;1;") && !sent.contains("\x1b_Ga=T"), "{sent:?}");
    let sixels = sent.rsplit("\x1bPq\"1;1;").next().unwrap().split("\x1b\\").next().unwrap();
    let (width, height) = sixels.split('#').next().unwrap().split_once(';').unwrap();
    let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
    let bands: Vec<&str> = sixels.split_terminator('-').collect();
    assert!(width > 100 && bands.len() == height.div_ceil(6), "{width} x {height}, {} bands", bands.len());
    assert!(bands.iter().all(|band| columns(band).iter().all(|&columns| columns == width)), "{sixels:?}");
    let sent = run(&out("iterm2"), "\x1b]1337;ReportCellSize=18.0;8.0;2.0\x1b\\\x1b[?62;4c");
    let last = sent.rfind("\x1b]1337;File=inline=1;size=").unwrap();
    assert!(shows_a_view(&decoded(&sent[last..], "\x1b]1337;", ':', "\x07")));
    let sent = run(&out("plain"), "\x1b[?62;22c");
    assert!(!sent.contains("\x1b_Ga=T") && !sent.contains("\x1bPq"), "{sent:?}");
    let told = "note: --show: this terminal shows no pictures: it knows neither kitty's protocol, nor iTerm2's, nor ";
    assert_eq!(sent.matches(told).count(), 1, "{sent:?}");

    // Without a terminal, and with one that nobody asked to show anything.
    let plain = out("plain");
    let words = [&["infer", text(&scene), "-o", text(&plain), "--view", "00000003"], &SMALL[..]].concat();
    let ran = engine(&words).done();
    let told = "note: --show: no pictures are shown, since standard output and error are not both a terminal\n";
    assert!(ran.stderr.contains(told) && !ran.stderr.contains('\x1b'), "{}", ran.stderr);
    let sent = in_terminal(&words[..words.len() - 1], "");
    assert!(!sent.contains("\x1b[c") && !sent.contains("\x1b_G"), "{sent:?}");
    assert!(engine([&words[..], &["--quiet"]].concat()).stderr.contains("cannot be used with"));
}
