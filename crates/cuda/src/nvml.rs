//! Power of NVIDIA GPUs through NVML, opened at run time; without it there is no power sensor, quietly.
//!
//! Signatures and numbers are those of `nvml.h`: every function returns `nvmlReturn_t`, 0 for success;
//! handles are pointers; power is in milliwatts, energy in millijoules since the driver was loaded (Volta
//! and newer). Jetson boards have no NVML for their own GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::Path;
use std::ptr;

use libloading::Library;

/// The library every driver for discrete GPUs installs.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The driver whose devices are counted.
const DRIVER: &str = "libcuda.so.1";

type Code = c_uint;
type Handle = *mut c_void;
type Call = unsafe extern "C" fn() -> Code;
type Count = unsafe extern "C" fn(*mut c_uint) -> Code;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Handle) -> Code;
type ByBus = unsafe extern "C" fn(*const c_char, *mut Handle) -> Code;
type Power = unsafe extern "C" fn(Handle, *mut c_uint) -> Code;
type Energy = unsafe extern "C" fn(Handle, *mut c_ulonglong) -> Code;
/// `cuDeviceGetPCIBusId`.
type BusOf = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;

/// A GPU whose power can be read.
pub struct Nvml {
    device: Handle,
    power: Power,
    energy: Option<Energy>,
    shutdown: Option<Call>,
    /// Keeps the functions above in memory.
    library: Library,
}

// SAFETY: NVML is safe to call from every thread, and its handles are valid in all of them (nvml.h).
unsafe impl Send for Nvml {}
// SAFETY: the same.
unsafe impl Sync for Nvml {}

impl Nvml {
    /// The sensor of this machine's CUDA device `index`; `None` if there is none.
    pub fn open(index: usize) -> Option<Nvml> {
        Nvml::open_at(Path::new(LIBRARY), Path::new(DRIVER), index)
    }

    /// The same with other libraries; the emulator is both.
    pub fn open_at(library: &Path, driver: &Path, index: usize) -> Option<Nvml> {
        // SAFETY: NVML's initialisers have no preconditions.
        let library = unsafe { Library::new(library) }.ok()?;
        // SAFETY: each type is that of nvml.h for its symbol, and the library outlives the copies.
        let (init, power, energy, shutdown) = unsafe {
            (
                symbol::<Call>(&library, c"nvmlInit_v2")?,
                symbol::<Power>(&library, c"nvmlDeviceGetPowerUsage")?,
                symbol::<Energy>(&library, c"nvmlDeviceGetTotalEnergyConsumption"),
                symbol::<Call>(&library, c"nvmlShutdown"),
            )
        };
        // SAFETY: takes nothing.
        if unsafe { init() } != 0 {
            return None;
        }
        // Shut down when dropped, whatever follows.
        let mut nvml = Nvml { device: ptr::null_mut(), power, energy, shutdown, library };
        nvml.device = nvml.find(index, bus_id(driver, index))?;
        (nvml.power_watts().is_some() || nvml.energy_joules().is_some()).then_some(nvml)
    }

    /// The device on this bus; without that knowledge the only one, if the first is asked for.
    fn find(&self, index: usize, bus: Option<CString>) -> Option<Handle> {
        let mut device = ptr::null_mut();
        // SAFETY: the types are those of nvml.h; a string that ends in zero, places for a number and a handle.
        unsafe {
            if let Some(bus) = bus {
                let by_bus = symbol::<ByBus>(&self.library, c"nvmlDeviceGetHandleByPciBusId_v2")?;
                return (by_bus(bus.as_ptr(), &raw mut device) == 0).then_some(device);
            }
            let count = symbol::<Count>(&self.library, c"nvmlDeviceGetCount_v2")?;
            let by_index = symbol::<ByIndex>(&self.library, c"nvmlDeviceGetHandleByIndex_v2")?;
            let mut devices = 0;
            let only = count(&raw mut devices) == 0 && devices == 1 && index == 0;
            (only && by_index(0, &raw mut device) == 0).then_some(device)
        }
    }

    /// What the GPU's board takes now, in watts; of recent GPUs the mean of the last second.
    pub fn power_watts(&self) -> Option<f64> {
        let mut milliwatts = 0;
        // SAFETY: a handle of NVML and a place for the number.
        let code = unsafe { (self.power)(self.device, &raw mut milliwatts) };
        (code == 0).then(|| f64::from(milliwatts) / 1e3)
    }

    /// What the GPU's board took since the driver was loaded, in joules, where it counts.
    pub fn energy_joules(&self) -> Option<f64> {
        let mut millijoules = 0;
        // SAFETY: a handle of NVML and a place for the number.
        let code = unsafe { (self.energy?)(self.device, &raw mut millijoules) };
        (code == 0).then(|| millijoules as f64 / 1e3)
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if let Some(shutdown) = self.shutdown {
            // SAFETY: initialised once by `open_at`; nothing of it is used any more.
            unsafe { shutdown() };
        }
    }
}

/// A copy of a function pointer, if the library has the function.
///
/// # Safety
/// `T` is the symbol's type, and the copy is not used after the library is closed.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Option<T> {
    // SAFETY: the caller's.
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
}

/// Where CUDA's device `index` sits. `CUDA_VISIBLE_DEVICES` changes CUDA's numbers and not NVML's, so the
/// bus is what both call it.
fn bus_id(driver: &Path, index: usize) -> Option<CString> {
    // SAFETY: the driver's initialisers have no preconditions; it is open already.
    let driver = unsafe { Library::new(driver) }.ok()?;
    let mut text = [0 as c_char; 64];
    // SAFETY: the type is that of cuda.h; devices are their ordinals there; a place of the length given,
    // whose last byte stays zero.
    unsafe {
        let bus_of = symbol::<BusOf>(&driver, c"cuDeviceGetPCIBusId")?;
        let code = bus_of(text.as_mut_ptr(), text.len() as c_int - 1, index as c_int);
        (code == 0).then(|| CStr::from_ptr(text.as_ptr()).to_owned())
    }
}
