//! Pictures in terminals that can show them, by one of three protocols: kitty's, iTerm2's, or sixels.
//!
//! Which of them a terminal has is asked of the terminal itself: it gets kitty's question, iTerm2's, and the one for
//! its primary attributes, which every terminal answers, so that nobody waits for answers that do not come. What
//! variables say of a terminal is passed over: it is wrong behind `ssh` and in multiplexers.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Rows of text that a picture takes where the protocol can say so.
const TEXT_ROWS: usize = 12;
/// Bytes of text that kitty's protocol takes at once.
const CHUNK: usize = 4096;
/// Between two pictures at least, unless it is the last one of a stage.
const PAUSE: Duration = Duration::from_secs(1);

/// How a terminal wants its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// sw.kovidgoyal.net/kitty/graphics-protocol
    Kitty,
    /// iterm2.com/documentation-images.html
    Iterm2,
    /// DEC's, in 216 colours.
    Sixel,
}

/// A small picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels a row.
    pub width: usize,
    /// Row by row.
    pub rgb: Vec<[u8; 3]>,
}

impl Picture {
    /// Rows.
    pub fn height(&self) -> usize {
        self.rgb.len() / self.width.max(1)
    }

    fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height() as u32);
        let rgb = self.rgb.as_flattened();
        // Into memory, with sizes that fit: nothing can go wrong.
        let _ = PngEncoder::new(&mut bytes).write_image(rgb, width, height, ExtendedColorType::Rgb8);
        bytes
    }

    /// What a terminal is told to show it.
    pub fn told(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Kitty => self.kitty(),
            Protocol::Iterm2 => {
                let data = self.png();
                let text = STANDARD.encode(&data);
                let size = format!("size={};height={TEXT_ROWS};preserveAspectRatio=1", data.len());
                format!("\x1b]1337;File=inline=1;{size}:{text}\x07\n")
            }
            Protocol::Sixel => self.sixels(),
        }
    }

    fn kitty(&self) -> String {
        let text = STANDARD.encode(self.png());
        let mut told = String::new();
        let chunks: Vec<&str> = text.as_bytes().chunks(CHUNK).filter_map(|c| std::str::from_utf8(c).ok()).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            // To be shown at once (T), a PNG (100), without an answer (q=2); m=1: more is to come.
            let head = if at == 0 { format!("a=T,f=100,q=2,r={TEXT_ROWS},") } else { String::new() };
            let _ = write!(told, "\x1b_G{head}m={};{chunk}\x1b\\", u8::from(at + 1 < chunks.len()));
        }
        told + "\n"
    }

    /// Six rows at a time, colour by colour; runs of the same sixel are counted.
    fn sixels(&self) -> String {
        const LEVELS: usize = 6;
        let index = |[r, g, b]: [u8; 3]| {
            let level = |v: u8| (usize::from(v) * (LEVELS - 1) + 127) / 255;
            (level(r) * LEVELS + level(g)) * LEVELS + level(b)
        };
        let colours: Vec<usize> = self.rgb.iter().map(|&colour| index(colour)).collect();
        // Raster attributes: square pixels, width, height.
        let mut told = format!("\x1bPq\"1;1;{};{}", self.width, self.height());
        let mut used: Vec<usize> = colours.clone();
        used.sort_unstable();
        used.dedup();
        for colour in used {
            let per_cent = |level: usize| 100 * level / (LEVELS - 1);
            let [r, g, b] = [colour / LEVELS / LEVELS, colour / LEVELS % LEVELS, colour % LEVELS].map(per_cent);
            let _ = write!(told, "#{colour};2;{r};{g};{b}");
        }
        for band in colours.chunks(6 * self.width) {
            let mut here: Vec<usize> = band.to_vec();
            here.sort_unstable();
            here.dedup();
            for colour in here {
                let _ = write!(told, "#{colour}");
                let bits = |x: usize| {
                    let rows = band.iter().skip(x).step_by(self.width).enumerate();
                    rows.filter(|(_, c)| **c == colour).fold(0u8, |bits, (row, _)| bits | 1 << row)
                };
                let mut x = 0;
                while x < self.width {
                    let sixel = bits(x);
                    let run = (x..self.width).take_while(|&x| bits(x) == sixel).count();
                    let letter = char::from(63 + sixel);
                    match run {
                        1..=3 => told.extend(std::iter::repeat_n(letter, run)),
                        _ => drop(write!(told, "!{run}{letter}")),
                    }
                    x += run;
                }
                told.push('$');
            }
            told.push('-');
        }
        told + "\x1b\\\n"
    }
}

/// A terminal that shows pictures, on standard error, where bars are drawn, too.
#[derive(Debug)]
pub struct Screen {
    protocol: Protocol,
    last: Mutex<Option<Instant>>,
}

impl Screen {
    /// The terminal that the program runs in, or why there is none that shows pictures.
    ///
    /// # Errors
    /// The reason, for a note.
    pub fn of_this_terminal() -> Result<Self, &'static str> {
        let answer = ask()?;
        let protocol = protocol_of(&answer)
            .ok_or("this terminal shows no pictures: it knows neither kitty's protocol, nor iTerm2's, nor sixels")?;
        Ok(Self { protocol, last: Mutex::default() })
    }

    /// Whether it is time for a picture again.
    pub fn is_due(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= PAUSE)
    }

    /// Shows a picture. A terminal that went away is no reason to stop the work.
    pub fn show(&self, picture: &Picture) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut out = io::stderr().lock();
        let _ = out.write_all(picture.told(self.protocol).as_bytes()).and_then(|()| out.flush());
        *last = Some(Instant::now());
    }
}

/// What is asked: whether kitty's protocol would take a pixel; iTerm2's size of a cell; the primary attributes.
#[cfg(unix)]
const QUESTIONS: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b]1337;ReportCellSize\x07\x1b[c";

/// The protocol that a terminal's answers speak of, the best first.
fn protocol_of(answer: &str) -> Option<Protocol> {
    if answer.contains("\x1b_Gi=31;OK") {
        return Some(Protocol::Kitty);
    }
    if answer.contains("]1337;ReportCellSize=") {
        return Some(Protocol::Iterm2);
    }
    // 4 among the attributes: sixel graphics.
    attributes(answer)?.split(';').any(|attribute| attribute == "4").then_some(Protocol::Sixel)
}

/// The primary attributes in an answer, `ESC [ ? 62 ; 4 c`, once they are there.
fn attributes(answer: &str) -> Option<&str> {
    let rest = answer.split("\x1b[?").nth(1)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    rest[end..].starts_with('c').then_some(&rest[..end])
}

/// Asks the terminal, and gives all that it answers.
#[cfg(unix)]
fn ask() -> Result<String, &'static str> {
    use std::fs::File;
    use std::io::{IsTerminal, Read};
    use std::os::fd::AsRawFd;

    /// A terminal on the other side of the world answers within this.
    const PATIENCE: Duration = Duration::from_secs(1);

    if !(io::stderr().is_terminal() && io::stdout().is_terminal()) {
        return Err("no pictures are shown, since standard output and error are not both a terminal");
    }
    let unasked = "no pictures are shown, since the terminal cannot be asked what it shows";
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| unasked)?;
    let descriptor = terminal.as_raw_fd();
    // SAFETY: both only return numbers. A program in the background would be stopped if it asked.
    if unsafe { libc::tcgetpgrp(descriptor) != libc::getpgrp() } {
        return Err(unasked);
    }
    // SAFETY: a struct of numbers, for which zeros are values; the call fills it.
    let mut before: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the pointer leads to a whole struct.
    if unsafe { libc::tcgetattr(descriptor, &mut before) } != 0 {
        return Err(unasked);
    }
    let mut raw = before;
    // Answers come at once and are not shown.
    raw.c_lflag &= !(libc::ICANON | libc::ECHO);
    // SAFETY: as above.
    unsafe { libc::tcsetattr(descriptor, libc::TCSANOW, &raw) };
    let mut answer = Vec::new();
    let began = Instant::now();
    if terminal.write_all(QUESTIONS.as_bytes()).and_then(|()| terminal.flush()).is_ok() {
        while let Some(left) = PATIENCE.checked_sub(began.elapsed()) {
            let mut waiting = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            // SAFETY: one struct, as the second argument says.
            let ready = unsafe { libc::poll(&mut waiting, 1, left.as_millis() as i32) };
            let mut some = [0; 256];
            match (ready > 0).then(|| terminal.read(&mut some)) {
                Some(Ok(count @ 1..)) => answer.extend(&some[..count]),
                _ => break,
            }
            if attributes(&String::from_utf8_lossy(&answer)).is_some() {
                break;
            }
        }
    }
    // SAFETY: as above.
    unsafe { libc::tcsetattr(descriptor, libc::TCSANOW, &before) };
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(not(unix))]
fn ask() -> Result<String, &'static str> {
    Err("no pictures are shown: terminals are asked for that on Unix only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_a_terminal_shows() {
        let attributes_only = "\x1b[?62;22c";
        assert_eq!(protocol_of(attributes_only), None);
        assert_eq!(protocol_of(""), None);
        // 14 is not 4; an answer that is not whole is none.
        assert_eq!(protocol_of("\x1b[?62;14c"), None);
        assert_eq!(protocol_of("\x1b[?62;4"), None);
        assert_eq!(protocol_of("\x1b[?62;4;22c"), Some(Protocol::Sixel));
        assert_eq!(protocol_of("\x1b]1337;ReportCellSize=18.0;8.0;2.0\x1b\\\x1b[?62;4c"), Some(Protocol::Iterm2));
        assert_eq!(protocol_of("\x1b_Gi=31;OK\x1b\\\x1b[?62c"), Some(Protocol::Kitty));
        assert_eq!(protocol_of("\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?62c"), None);
    }

    /// Noise, so that its PNG takes several chunks.
    fn picture() -> Picture {
        let mut random = crate::host::random::Random::new(&[5]);
        Picture { width: 83, rgb: (0..83 * 47).map(|_| [0; 3].map(|_: u8| (random.unit() * 256.0) as u8)).collect() }
    }

    fn decoded(text: &str) -> Vec<[u8; 3]> {
        let image = image::load_from_memory(&STANDARD.decode(text).unwrap()).unwrap().into_rgb8();
        image.pixels().map(|pixel| pixel.0).collect()
    }

    #[test]
    fn kitty_gets_a_png_in_chunks() {
        let told = picture().told(Protocol::Kitty);
        let chunks: Vec<&str> = told.trim_end().split("\x1b\\").filter(|c| !c.is_empty()).collect();
        assert!(chunks.len() > 2);
        let mut text = String::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let (head, data) = chunk.strip_prefix("\x1b_G").unwrap().split_once(';').unwrap();
            assert!(head.ends_with(if at + 1 < chunks.len() { "m=1" } else { "m=0" }));
            assert_eq!(head.starts_with("a=T,f=100,q=2,"), at == 0);
            assert!(data.len() <= CHUNK);
            text += data;
        }
        assert_eq!(decoded(&text), picture().rgb);
    }

    #[test]
    fn iterm2_gets_a_png() {
        let told = picture().told(Protocol::Iterm2);
        let text = told.strip_prefix("\x1b]1337;File=inline=1;size=").unwrap().strip_suffix("\x07\n").unwrap();
        let (size, text) = text.split_once(';').and_then(|(size, rest)| Some((size, rest.split_once(':')?.1))).unwrap();
        assert_eq!(STANDARD.decode(text).unwrap().len().to_string(), size);
        assert_eq!(decoded(text), picture().rgb);
    }

    #[test]
    fn sixels_paint_every_pixel_in_the_nearest_of_their_colours() {
        let shown = picture();
        let told = shown.told(Protocol::Sixel);
        let body = told.strip_prefix("\x1bPq\"1;1;83;47").unwrap().strip_suffix("\x1b\\\n").unwrap();
        let (mut colours, mut painted) = (vec![[0u8; 3]; 216], vec![None; shown.rgb.len()]);
        let (mut at, mut x, mut band, mut colour) = (0, 0, 0, 0);
        let bytes = body.as_bytes();
        let number = |at: &mut usize| {
            let from = *at;
            while *at < bytes.len() && bytes[*at].is_ascii_digit() {
                *at += 1;
            }
            body[from..*at].parse::<usize>().unwrap()
        };
        while at < bytes.len() {
            let letter = bytes[at];
            at += 1;
            let run = if letter == b'!' { number(&mut at) } else { 1 };
            match letter {
                b'#' => {
                    colour = number(&mut at);
                    if bytes[at] == b';' {
                        at += 3;
                        let parts = [0; 3].map(|_: u8| {
                            let value = number(&mut at);
                            at += usize::from(at < bytes.len() && bytes[at] == b';');
                            value
                        });
                        colours[colour] = parts.map(|per_cent| (per_cent * 255 / 100) as u8);
                    }
                }
                b'$' => x = 0,
                b'-' => (x, band) = (0, band + 1),
                _ => {
                    let sixel = if letter == b'!' { bytes[at] } else { letter } - 63;
                    at += usize::from(letter == b'!');
                    for _ in 0..run {
                        for row in (0..6).filter(|row| sixel >> row & 1 == 1) {
                            painted[(6 * band + row) * 83 + x] = Some(colours[colour]);
                        }
                        x += 1;
                    }
                }
            }
        }
        for (found, expected) in painted.into_iter().zip(shown.rgb) {
            // Steps of 51.
            assert!(found.unwrap().iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 26));
        }
    }
}
