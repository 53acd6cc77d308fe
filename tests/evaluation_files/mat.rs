//! MAT files written by SciPy and by the test, and broken ones each with its line.

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::mat::{MatFile, Values};

use crate::dtu_files::{MatArray, Stored, doubles, mat};
use crate::message;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mat").join(name)
}

#[test]
fn what_scipy_writes_is_read() {
    let file = MatFile::read(&data("compressed.mat")).unwrap();
    let mask = file.array("ObsMask").unwrap();
    assert_eq!((mask.dimensions.as_slice(), mask.is_logical), (&[5, 4, 3][..], false));
    let expected: Vec<u8> = (0..60).map(|i| ((i % 5 + 2 * (i / 5 % 4) + 3 * (i / 20)) % 2) as u8).collect();
    assert_eq!(mask.values, Values::Bytes(expected));
    let bounds = file.array("BB").unwrap();
    assert_eq!(bounds.dimensions, [2, 3]);
    assert_eq!(bounds.values, Values::Numbers(vec![-1.5, 10.0, 2.0, 20.25, 3.0, 30.0]));
    assert_eq!(file.array("Res").unwrap().values.to_numbers(), [0.25]);
    let flag = file.array("flag").unwrap();
    assert!(flag.is_logical);
    assert_eq!(flag.values.to_flags(), [1, 0]);
    for (name, what) in
        [("text", "a text"), ("cell", "a cell array"), ("s", "a structure"), ("z", "an array of complex numbers")]
    {
        assert_eq!(
            file.array(name).unwrap_err().to_string(),
            format!("{}: '{name}' is {what}; expected an array of numbers '{name}'", data("compressed.mat").display())
        );
    }

    let file = MatFile::read(&data("plain.mat")).unwrap();
    let numbers = |name: &str| file.array(name).unwrap().values.to_numbers();
    assert_eq!(numbers("P"), [1.0, -2.5, 3e-9, 4e8]);
    assert_eq!(numbers("i16"), [-3.0, 7.0]);
    assert_eq!(numbers("i64"), [-5.0]);
    assert_eq!(numbers("f32"), [1.5, 2.5, -3.5]);
    assert_eq!(numbers("u32"), [4294967295.0]);
    assert_eq!(numbers("i8"), [-128.0, 127.0, 0.0]);
    assert!(numbers("e").is_empty());
}

#[test]
fn mat_files_of_both_byte_orders_are_alike() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.mat");
    let values = [1.0, -2.0, 3.0, 400.0, 5.0, 6.0];
    for little in [true, false] {
        for compressed in [true, false] {
            let arrays = [
                doubles("first", &[2, 3], &values),
                // Doubles are stored smaller where they fit; two of them share their tag's bytes.
                MatArray { stored: Stored::I16, ..doubles("small", &[1, 2], &values[..2]) },
                MatArray { stored: Stored::F32, class: 7, ..doubles("float", &[6, 1], &values) },
                MatArray { stored: Stored::U8, class: 9, flags: 2, ..doubles("b", &[3, 1, 1], &[1.0, 0.0, 1.0]) },
            ];
            fs::write(&path, mat(&arrays, little, compressed)).unwrap();
            let file = MatFile::read(&path).unwrap();
            for name in ["first", "float"] {
                assert_eq!(file.array(name).unwrap().values, Values::Numbers(values.to_vec()), "{name}");
            }
            assert_eq!(file.array("small").unwrap().values.to_numbers(), values[..2]);
            let flags = file.array("b").unwrap();
            assert!(flags.is_logical && flags.dimensions == [3, 1, 1]);
            assert_eq!(flags.values, Values::Bytes(vec![1, 0, 1]));
        }
    }
}

#[test]
fn broken_mat_files_are_told_in_one_line() {
    let of = |bytes: &[u8]| message(bytes, MatFile::read);
    let whole = mat(&[doubles("P", &[4, 1], &[1.0, 2.0, 3.0, 4.0])], true, false);
    assert_eq!(
        of(b"short"),
        "FILE: 5 bytes; expected a MAT file of level 5 (save -v6 or -v7), whose header alone has 128"
    );
    assert_eq!(
        of(b"MATLAB 7.3 MAT-file"),
        "FILE: a MAT file of version 7.3 (HDF5); expected a MAT file of level 5 (save -v6 or -v7)"
    );
    assert_eq!(
        of(&[b'x'; 200]),
        "FILE: 'xx' at byte 126; expected 'IM' or 'MI' there: a MAT file of level 5 (save -v6 or -v7)"
    );
    // Tag 8, flags 16, dimensions 16, name 8, values 40: 80 bytes after the first tag.
    assert_eq!(
        of(&whole[..whole.len() - 1]),
        "FILE: byte 128: an element of 80 bytes where 79 are left; expected a whole file; this one is truncated or \
         damaged, get it again"
    );
    assert_eq!(
        of(&whole[..132]),
        "FILE: byte 128: an element of 8 bytes where 4 are left; expected a whole file; this one is truncated or \
         damaged, get it again"
    );
    assert_eq!(
        of(&mat(&[doubles("P", &[5, 1], &[1.0, 2.0])], true, true)),
        "FILE: 'P': 2 values for dimensions 5 x 1; expected as many values as the dimensions say; the file is damaged, \
         get it again"
    );
    // Damage anywhere gives an error or other numbers, never a panic.
    for compressed in [false, true] {
        let whole =
            mat(&[doubles("P", &[4, 1], &[1.0, 2.0, 3.0, 4.0]), doubles("Q", &[1, 1], &[1.0])], true, compressed);
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        for at in 124..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                let _ = MatFile::read(&path).map(|f| f.array("P").map(|a| a.values.len()));
            }
            fs::write(&path, &whole[..at]).unwrap();
            let _ = MatFile::read(&path);
        }
    }
}
