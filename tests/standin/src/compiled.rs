//! Kernels that the C++ compiler made (tests/emulator) instead of interpreted ones: many times as fast, for runs that
//! are too large to interpret. Nothing within a kernel is checked, and nothing is known of what was written.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_int, c_void};
use std::path::Path;

use libloading::Library;

use super::codes::Code;
use super::silicon::Failure;
use ptx_interpreter::machine::Shape;

type Launch = unsafe extern "C" fn(*const u32, *const u32, usize, *mut *mut c_void) -> c_int;
type Count = unsafe extern "C" fn() -> usize;
type Size = unsafe extern "C" fn(usize) -> usize;

/// A kernel: how it is started, and the bytes of its parameters.
#[derive(Clone)]
struct Entry {
    launch: Launch,
    sizes: Vec<usize>,
}

/// Memory, which is the process's own, and the kernels.
pub struct Compiled {
    library: Library,
    entries: HashMap<String, Entry>,
    /// Bytes of what is allocated, by address.
    sizes: BTreeMap<u64, u64>,
}

impl Compiled {
    /// With the kernels of this library.
    ///
    /// # Panics
    /// Where there is none.
    pub fn open(path: &Path) -> Self {
        // SAFETY: a library of tests/emulator, which has no initialisers with requirements.
        let library = unsafe { Library::new(path) };
        let library = library.unwrap_or_else(|error| panic!("ENGINE_STANDIN_KERNELS={}: {error}", path.display()));
        Self { library, entries: HashMap::new(), sizes: BTreeMap::new() }
    }

    fn symbol<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: the callers name functions of tests/emulator with their types there.
        unsafe { self.library.get::<T>(name.as_bytes()) }.ok().map(|symbol| *symbol)
    }

    /// Memory that holds 0xff, with a gap around it that is none.
    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let allocate: unsafe extern "C" fn(usize) -> *mut c_void = self.symbol("emulator_allocate")?;
        // SAFETY: no conditions.
        let address = unsafe { allocate(bytes as usize) } as u64;
        if address == 0 {
            return None;
        }
        self.sizes.insert(address, bytes);
        Some(address)
    }

    /// Frees what begins at this address; its size. The address is never memory again.
    pub fn free(&mut self, address: u64) -> Option<u64> {
        let bytes = self.sizes.remove(&address)?;
        let free: unsafe extern "C" fn(*mut c_void) -> c_int = self.symbol("emulator_free")?;
        // SAFETY: allocated above, and freed once since it was in the table.
        let intact = unsafe { free(address as *mut c_void) };
        assert_eq!(intact, 1, "something was written behind the end of an allocation of {bytes} bytes");
        Some(bytes)
    }

    /// The allocation around an address.
    pub fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (&start, &bytes) = self.sizes.range(..=address).next_back()?;
        (address - start < bytes).then_some((start, bytes))
    }

    /// The size of each allocation.
    pub fn each(&self) -> impl Iterator<Item = u64> {
        self.sizes.values().copied()
    }

    /// Bytes that one allocation has as a whole.
    pub fn bytes(&self, from: u64, bytes: u64) -> Option<&[u8]> {
        let (start, length) = self.around(from)?;
        let inside = from + bytes <= start + length;
        // SAFETY: the range lies in memory that is allocated, and kernels run only while this is borrowed mutably.
        inside.then(|| unsafe { std::slice::from_raw_parts(from as *const u8, bytes as usize) })
    }

    /// As above, to be changed.
    pub fn bytes_mut(&mut self, to: u64, bytes: u64) -> Option<&mut [u8]> {
        let (start, length) = self.around(to)?;
        let inside = to + bytes <= start + length;
        // SAFETY: as above.
        inside.then(|| unsafe { std::slice::from_raw_parts_mut(to as *mut u8, bytes as usize) })
    }

    fn entry(&mut self, kernel: &str) -> Option<Entry> {
        if let Some(entry) = self.entries.get(kernel) {
            return Some(entry.clone());
        }
        let launch = self.symbol::<Launch>(&format!("launch_{kernel}"))?;
        let count = self.symbol::<Count>(&format!("parameter_count_{kernel}"))?;
        let size = self.symbol::<Size>(&format!("parameter_size_{kernel}"))?;
        // SAFETY: both take no pointers, and the index is below the count.
        let sizes = unsafe { (0..count()).map(|i| size(i)).collect() };
        let entry = Entry { launch, sizes };
        self.entries.insert(kernel.to_owned(), entry.clone());
        Some(entry)
    }

    /// Runs a kernel.
    ///
    /// # Errors
    /// Where the library has none of this name and these parameters, or it refuses the shape.
    pub fn launch(&mut self, kernel: &str, shape: Shape, parameters: &[Vec<u8>]) -> Result<(), Failure> {
        let failed = |what: String| (Code::LAUNCH_FAILED, format!("`{kernel}`: {what}"));
        let entry = self.entry(kernel).ok_or_else(|| failed("the library of kernels lacks it".into()))?;
        let sizes: Vec<usize> = parameters.iter().map(Vec::len).collect();
        if sizes != entry.sizes {
            return Err(failed(format!("it takes parameters of {:?} bytes, not {sizes:?}", entry.sizes)));
        }
        // Parameters are aligned like their types; none needs more than 16 bytes.
        let of_words = |bytes: &Vec<u8>| -> Vec<u128> {
            let word = |part: &[u8]| {
                let mut word = [0; 16];
                word[..part.len()].copy_from_slice(part);
                u128::from_ne_bytes(word)
            };
            bytes.chunks(16).map(word).collect()
        };
        let mut words: Vec<Vec<u128>> = parameters.iter().map(of_words).collect();
        let mut list: Vec<*mut c_void> = words.iter_mut().map(|words| words.as_mut_ptr().cast()).collect();
        let Shape { grid, block, shared } = shape;
        // SAFETY: the parameters have the sizes that the kernel takes; what their pointers point to is the program's
        // business.
        let status = unsafe { (entry.launch)(grid.as_ptr(), block.as_ptr(), shared as usize, list.as_mut_ptr()) };
        if status != 0 {
            return Err(failed(format!("grid {grid:?} of {block:?} threads is refused")));
        }
        Ok(())
    }
}
