//! Memory of the device, and memory of the host that both see.
//!
//! Every copy is part of a stream, so it is in order with the launches there and legal while other threads
//! record graphs. Those between [`Block`]s and slices also wait for the stream.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};
use std::ops::Range;
use std::ptr;

use super::sys::{self, Address};
use super::{Context, Error, Stream};

/// Values that are their bytes: any pattern is valid, nothing is padding.
///
/// # Safety
/// Exactly that.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: numbers without padding; every pattern is one.
unsafe impl Plain for u8 {}
// SAFETY: the same.
unsafe impl Plain for i8 {}
// SAFETY: the same.
unsafe impl Plain for u16 {}
// SAFETY: the same.
unsafe impl Plain for i16 {}
// SAFETY: the same.
unsafe impl Plain for u32 {}
// SAFETY: the same.
unsafe impl Plain for i32 {}
// SAFETY: the same.
unsafe impl Plain for u64 {}
// SAFETY: the same.
unsafe impl Plain for i64 {}
// SAFETY: the same.
unsafe impl Plain for f32 {}
// SAFETY: the same.
unsafe impl Plain for f64 {}
// SAFETY: one u16.
unsafe impl Plain for half::f16 {}

/// Memory of the device, freed when dropped. At least 256-byte aligned; its content is not defined at first.
pub struct Block {
    context: Context,
    address: Address,
    bytes: usize,
}

impl Block {
    /// Allocates.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also for a size the driver does not give in one piece.
    pub fn new(context: &Context, bytes: usize) -> Result<Block, Error> {
        context.bind()?;
        let api = context.api();
        let mut address = 0;
        // SAFETY: a place for the address. The driver refuses a size of 0.
        let code = unsafe { (api.mem_alloc)(&raw mut address, bytes.max(1)) };
        if code == sys::OUT_OF_MEMORY {
            let (free, total) = context.memory()?;
            return Err(Error::OutOfMemory { bytes, free, total });
        }
        api.check("cuMemAlloc", code)?;
        Ok(Block { context: context.clone(), address, bytes })
    }

    /// Where it begins on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `values` to byte `offset` and waits.
    pub fn write<T: Plain>(&self, stream: &Stream, offset: usize, values: &[T]) -> Result<(), Error> {
        let to = self.at(offset, size_of_val(values))?;
        self.copy_in(stream, to, values.as_ptr().cast(), size_of_val(values))?;
        stream.synchronize()
    }

    /// Copies from byte `offset` into `values` and waits.
    pub fn read<T: Plain>(&self, stream: &Stream, offset: usize, values: &mut [T]) -> Result<(), Error> {
        let from = self.at(offset, size_of_val(values))?;
        self.copy_out(stream, values.as_mut_ptr().cast(), from, size_of_val(values))?;
        stream.synchronize()
    }

    /// Copies elements of `from` to byte `offset` when the stream comes to it.
    ///
    /// `from` is neither written nor dropped before that.
    pub fn write_later<T: Plain>(
        &self,
        stream: &Stream,
        offset: usize,
        from: &Pinned<T>,
        elements: Range<usize>,
    ) -> Result<(), Error> {
        let (start, bytes) = from.part(&elements)?;
        self.copy_in(stream, self.at(offset, bytes)?, start.cast(), bytes)
    }

    /// Copies from byte `offset` to elements of `to` when the stream comes to it.
    ///
    /// `to` is neither read nor dropped before that.
    pub fn read_later<T: Plain>(
        &self,
        stream: &Stream,
        offset: usize,
        to: &Pinned<T>,
        elements: Range<usize>,
    ) -> Result<(), Error> {
        let (start, bytes) = to.part(&elements)?;
        self.copy_out(stream, start.cast(), self.at(offset, bytes)?, bytes)
    }

    /// Copies `bytes` from byte `start` of another block to byte `offset` when the stream comes to it.
    ///
    /// Both blocks live until then; the parts do not overlap.
    pub fn copy_later(
        &self,
        stream: &Stream,
        offset: usize,
        from: &Block,
        start: usize,
        bytes: usize,
    ) -> Result<(), Error> {
        let (to, from) = (self.at(offset, bytes)?, from.at(start, bytes)?);
        if bytes == 0 {
            return Ok(());
        }
        self.context.call("cuMemcpyDtoDAsync", |api| {
            // SAFETY: both parts lie in their blocks.
            unsafe { (api.memcpy_on_device)(to, from, bytes, stream.handle()) }
        })
    }

    /// Sets `bytes` from byte `offset` to `value` when the stream comes to it.
    pub fn fill_later(&self, stream: &Stream, offset: usize, bytes: usize, value: u8) -> Result<(), Error> {
        let at = self.at(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        self.context.call("cuMemsetD8Async", |api| {
            // SAFETY: the part lies in the block.
            unsafe { (api.memset)(at, value, bytes, stream.handle()) }
        })
    }

    /// The address of a part.
    fn at(&self, offset: usize, bytes: usize) -> Result<Address, Error> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(Error::Range { offset, bytes, length: self.bytes });
        }
        Ok(self.address + offset as u64)
    }

    fn copy_in(&self, stream: &Stream, to: Address, from: *const c_void, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.call("cuMemcpyHtoDAsync", |api| {
            // SAFETY: `to` is a part of the block; `from` is as long and lives until the copy (a slice whose
            // borrower waits, or pinned memory under the caller's promise).
            unsafe { (api.memcpy_to_device)(to, from, bytes, stream.handle()) }
        })
    }

    fn copy_out(&self, stream: &Stream, to: *mut c_void, from: Address, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.call("cuMemcpyDtoHAsync", |api| {
            // SAFETY: as above, the other way.
            unsafe { (api.memcpy_to_host)(to, from, bytes, stream.handle()) }
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated once; the driver waits for what uses it.
        let _ = self.context.call("cuMemFree", |api| unsafe { (api.mem_free)(self.address) });
    }
}

/// Page-locked memory of the host, mapped into the device's addresses; zero at first.
///
/// Host and device may use it at the same time: elements are read and written one by one ([`Pinned::get`],
/// [`Pinned::set`]), or as a slice while nothing under way touches it.
pub struct Pinned<T: Plain> {
    context: Context,
    start: *mut T,
    length: usize,
    address: Address,
    values: PhantomData<T>,
}

// SAFETY: the memory belongs to this value alone, as a Vec's does.
unsafe impl<T: Plain + Send> Send for Pinned<T> {}

impl<T: Plain> Pinned<T> {
    /// Room for `length` values.
    pub fn new(context: &Context, length: usize) -> Result<Pinned<T>, Error> {
        // The driver refuses a size of 0.
        let bytes = (length * size_of::<T>()).max(1);
        let mut start = ptr::null_mut();
        context.call("cuMemHostAlloc", |api| {
            // SAFETY: a place for the pointer.
            unsafe { (api.mem_host_alloc)(&raw mut start, bytes, sys::HOST_PORTABLE_AND_MAPPED) }
        })?;
        let mut pinned =
            Pinned { context: context.clone(), start: start.cast(), length, address: 0, values: PhantomData };
        // SAFETY: the memory has this length; zero bytes are a value of every `Plain` type.
        unsafe { ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        context.call("cuMemHostGetDevicePointer", |api| {
            // SAFETY: mapped memory and a place for its address.
            unsafe { (api.mem_host_get_device_pointer)(&raw mut pinned.address, start, 0) }
        })?;
        Ok(pinned)
    }

    /// Where it begins for kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value at `index` now, whatever the device does meanwhile.
    ///
    /// # Panics
    /// Beyond the end, as a slice.
    pub fn get(&self, index: usize) -> T {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: within the memory, initialised, aligned to at least a page's part.
        unsafe { self.start.add(index).read_volatile() }
    }

    /// Writes the value at `index`; a kernel launched later sees it.
    ///
    /// # Panics
    /// Beyond the end, as a slice.
    pub fn set(&self, index: usize, value: T) {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: within the memory; the value is not `Sync`, so no other thread of the host writes.
        unsafe { self.start.add(index).write_volatile(value) };
    }

    /// Everything, while nothing under way writes it.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: initialised memory of this length; the device is idle here by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// Everything, while nothing under way uses it.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Start and bytes of some elements.
    fn part(&self, elements: &Range<usize>) -> Result<(*mut T, usize), Error> {
        if elements.start > elements.end || elements.end > self.length {
            let size = size_of::<T>();
            let (offset, bytes) = (elements.start * size, elements.len() * size);
            return Err(Error::Range { offset, bytes, length: self.length * size });
        }
        // SAFETY: at most one past the end.
        let start = unsafe { self.start.add(elements.start) };
        Ok((start, elements.len() * size_of::<T>()))
    }
}

impl<T: Plain> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: allocated once, and nothing under way uses it by the caller's promise.
        let _ = self.context.call("cuMemFreeHost", |api| unsafe { (api.mem_free_host)(self.start.cast()) });
    }
}
