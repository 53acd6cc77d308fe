//! Files that unfold a thousandfold: refused by what they come to, before that is taken. Alone in its file, since the
//! budget is the process's.

use std::io::Write;

use engine::Error;
use engine::files::image;
use engine::files::mat::{MatFile, Values};
use engine::host::memory::{budget, set_budget};

/// A MAT file with one compressed array of `count` zeros of type `kind`, `size` bytes each.
fn zeros(kind: u32, size: u32, count: u32) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let padded = (count * size).next_multiple_of(8);
    // Flags (class uint8), dimensions, the name "z", values.
    let head = [words(&[6, 8, 9, 0]), words(&[5, 8, count, 1]), words(&[1 << 16 | 1, u32::from(b'z')])].concat();
    let total = head.len() as u32 + 8 + padded;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&[words(&[14, total]), head, words(&[kind, count * size])].concat()).unwrap();
    packed.write_all(&vec![0; padded as usize]).unwrap();
    let packed = packed.finish().unwrap();
    let mut file = format!("{:124}", "MATLAB 5.0 MAT-file").into_bytes();
    file.extend([0, 1, b'I', b'M']);
    file.extend(words(&[15, packed.len() as u32]));
    file.extend(packed);
    file
}

#[test]
fn files_that_come_to_more_than_there_is_room_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        bytes.len()
    };
    // 9 megapixels in some kilobytes: 9 MB of grey and 108 MB of floats; with alpha 18 + 144.
    ::image::GrayImage::from_pixel(3000, 3000, ::image::Luma([7])).save(path("grey.png")).unwrap();
    ::image::GrayAlphaImage::from_pixel(3000, 3000, ::image::LumaA([7, 9])).save(path("alpha.png")).unwrap();
    // Bytes are kept as they are: unpacked and as values 40 MB. As numbers of eight bytes they are 40 + 160.
    let bytes = zeros(1, 1, 20_000_000);
    let shorts = zeros(3, 2, 20_000_000);
    assert!(write("bytes.mat", &bytes) < 300_000 && write("shorts.mat", &shorts) < 300_000);
    let refused = |error: Error, name: &str, parts: &[&str]| {
        assert_eq!(error.exit_code(), 5);
        let message = error.to_string();
        let named = message.starts_with(&format!("memory: {} comes to ", path(name).display()));
        assert!(named && parts.iter().all(|part| message.contains(part)), "{message}");
    };
    for (room, grey, alpha, as_bytes, as_numbers) in [
        (30, false, false, false, false),
        (60, false, false, true, false),
        (140, true, false, true, false),
        (250, true, true, true, true),
    ] {
        set_budget(Some(room * 1_000_000));
        assert_eq!(budget(), room * 1_000_000);
        let available = format!("and one file may take {room} MB");
        match (image::read(&path("grey.png")), grey) {
            (Ok(read), true) => assert_eq!((read.size, read.alpha), ((3000, 3000), None)),
            (Err(error), false) => refused(error, "grey.png", &["117 MB in memory", &available]),
            (read, _) => panic!("{room}: {:?}", read.map(|r| r.size)),
        }
        match (image::read(&path("alpha.png")), alpha) {
            (Ok(read), true) => assert_eq!(read.alpha.unwrap()[77], 9.0 / 255.0),
            (Err(error), false) => refused(error, "alpha.png", &["162 MB in memory", &available]),
            (read, _) => panic!("{room}: {:?}", read.map(|r| r.size)),
        }
        for (name, fits) in [("bytes.mat", as_bytes), ("shorts.mat", as_numbers)] {
            match (MatFile::read(&path(name)), fits) {
                (Ok(file), true) => {
                    let values = &file.array("z").unwrap().values;
                    assert_eq!((values.len(), matches!(values, Values::Bytes(_))), (20_000_000, name == "bytes.mat"));
                }
                (Err(error), false) => refused(error, name, &[&available]),
                (read, _) => panic!("{room} {name}: {}", read.is_ok()),
            }
        }
    }
    set_budget(None);
    assert!(budget() > 250_000_000, "what the machine has");
}
