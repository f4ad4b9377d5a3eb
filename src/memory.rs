//! Giving memory back.
//!
//! glibc's allocator raises the size from which blocks are mapped on their own to that of the largest block that was ever freed, up to 32 MiB, and
//! keeps the smaller ones for each thread: once every thread has worked on a message of 16 MB, hundreds of megabytes stay with the process. With a
//! size of our own it leaves that alone (mallopt(3), `M_MMAP_THRESHOLD`). Many small blocks, as SORT and THREAD need for each message, stay with the
//! process as well, until it is told to return what is free (malloc_trim(3)).
//!
//! # Failure
//! None: without this, or with another C library, the process is only larger.

/// Blocks of at least so many bytes go back to the system when they are freed: more than what is used all the time, less than a large message.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 1 << 20;
/// So much free memory at the end of the heap is kept: asking the system again and again for the buffers of each answer costs more.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 << 20;

/// Tells the allocator how to go about it: also that there is no more than one heap for each core. Without that there are eight, and each
/// keeps what its threads once used; the items of a large list's post are worked on by as many threads. Before other threads begin.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn set_up() {
    use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
    let heaps =
        std::thread::available_parallelism().map_or(2, |cores| i32::try_from(cores.get()).unwrap_or(2));
    // SAFETY: mallopt only sets numbers of the allocator, under its lock; all are valid, and their order does not matter.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
        mallopt(M_TRIM_THRESHOLD, KEPT);
        mallopt(M_ARENA_MAX, heaps.max(2));
    }
}

/// Nothing to tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}

/// Returns what is free to the system, after work that needed very much, or many small pieces. Takes milliseconds for each hundred megabytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: the function takes the allocator's own locks, and touches only pages that nobody uses.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Nothing to tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
