//! The NVRTC library, opened at build time.

use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libloading::Library;

use super::{Source, options};

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

/// Where toolkits and JetPack put the library when the loader does not know it.
const FOLDERS: [&str; 2] = ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib"];

/// An open NVRTC.
pub(crate) struct Nvrtc {
    /// Major and minor.
    pub(crate) version: (u32, u32),
    create: Create,
    compile: Compile,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    log_size: Size,
    log: Bytes,
    cubin_size: Size,
    cubin: Bytes,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    /// Keeps the functions above in memory.
    _library: Library,
}

impl Nvrtc {
    /// The first of `names` that opens, on the loader's path or in a toolkit's folder.
    pub(crate) fn find(names: &[&str]) -> Option<Nvrtc> {
        let bare = names.iter().map(|name| Path::new(name).to_owned());
        let full = FOLDERS.iter().flat_map(|folder| names.iter().map(|name| Path::new(folder).join(name)));
        bare.chain(full).find_map(|path| Nvrtc::open(&path).ok())
    }

    /// Opens the library at `path`.
    pub(crate) fn open(path: &Path) -> Result<Nvrtc, String> {
        // SAFETY: NVRTC's initialisers have no preconditions.
        let library = unsafe { Library::new(path) }.map_err(|e| words(&e))?;
        // SAFETY: the types are those of nvrtc.h, stable since CUDA 11.1; `_library` outlives the copies.
        unsafe {
            let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
                symbol(&library, c"nvrtcVersion")?;
            let (mut major, mut minor) = (0, 0);
            let code = version(&raw mut major, &raw mut minor);
            if code != 0 {
                return Err(format!("nvrtcVersion failed with {code}"));
            }
            Ok(Nvrtc {
                version: (major as u32, minor as u32),
                create: symbol(&library, c"nvrtcCreateProgram")?,
                compile: symbol(&library, c"nvrtcCompileProgram")?,
                destroy: symbol(&library, c"nvrtcDestroyProgram")?,
                log_size: symbol(&library, c"nvrtcGetProgramLogSize")?,
                log: symbol(&library, c"nvrtcGetProgramLog")?,
                cubin_size: symbol(&library, c"nvrtcGetCUBINSize")?,
                cubin: symbol(&library, c"nvrtcGetCUBIN")?,
                error: symbol(&library, c"nvrtcGetErrorString")?,
                _library: library,
            })
        }
    }

    /// Compiles a unit of `folder`.
    pub(crate) fn compile(
        &self,
        folder: &Path,
        unit: &Source,
        arch: u32,
    ) -> Result<(Vec<u8>, String), String> {
        let name = c_string(&unit.name)?;
        let text = c_string(&unit.text)?;
        let mut options = options(unit, arch);
        options.push("--ptxas-options=-v".to_owned());
        options.push(format!("--include-path={}", folder.display()));
        let options = c_strings(options.iter().map(String::as_str))?;
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();

        let mut program: Program = ptr::null_mut();
        // SAFETY: all pointers are to strings and arrays that live until the end of this function, with
        // the counts they are given with; the program is destroyed once, after its last use.
        unsafe {
            let code =
                (self.create)(&raw mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null());
            self.check("nvrtcCreateProgram", code)?;
            let code = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let log = self.bytes(program, self.log_size, self.log);
            let cubin = match self.check("nvrtcCompileProgram", code) {
                Ok(()) => self.bytes(program, self.cubin_size, self.cubin),
                Err(error) => Err(error),
            };
            (self.destroy)(&raw mut program);
            let log = String::from_utf8_lossy(&log?).trim_end_matches('\0').to_owned();
            match cubin {
                Ok(cubin) => Ok((cubin, log)),
                Err(error) => Err(format!("{error}\n{log}")),
            }
        }
    }

    /// What a pair of size and content functions gives.
    ///
    /// # Safety
    /// `program` is alive and both functions are of this library.
    unsafe fn bytes(&self, program: Program, size: Size, content: Bytes) -> Result<Vec<u8>, String> {
        let mut length = 0;
        // SAFETY: a valid program and a place for the length.
        self.check("the size of a result", unsafe { size(program, &raw mut length) })?;
        let mut bytes = vec![0_u8; length];
        // SAFETY: the buffer has the length the library asked for.
        self.check("a result", unsafe { content(program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn check(&self, call: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function returns a string that lives as long as the library, for any code.
        let text = unsafe { CStr::from_ptr((self.error)(code)) };
        Err(format!("{call}: {}", text.to_string_lossy()))
    }
}

/// A copy of a function pointer.
///
/// # Safety
/// `T` is the symbol's type, and the copy is not used after the library is closed.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: the caller's.
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }.map(|s| *s).map_err(|e| words(&e))
}

/// The loader's own words, which libloading keeps as the source.
fn words(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a zero byte in the text".to_owned())
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, String> {
    texts.map(c_string).collect()
}
