//! Giving memory back.
//!
//! glibc's allocator raises the size from which blocks are mapped on their own to that of the largest block that was ever freed, up to 32 MiB, and
//! keeps the smaller ones for each thread: once every thread has worked on a message of 16 MB, hundreds of megabytes stay with the process. With a
//! size of our own it leaves that alone (mallopt(3), `M_MMAP_THRESHOLD`).
//!
//! # Failure
//! None: without this, or with another C library, the process is only larger.

/// Blocks of at least so many bytes go back to the system when they are freed: more than what is used all the time, less than a large message.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 1 << 20;
/// So much free memory at the end of the heap is kept: asking the system again and again for the buffers of each answer costs more.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 << 20;

/// So many heaps there are at most. Without a limit there are eight for each core, and each keeps what its threads once used: the items of a large
/// list's post are worked on by as many threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Tells the allocator. Before other threads begin.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn give_back() {
    use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
    // SAFETY: mallopt only sets numbers of the allocator, under its lock; all are valid, and their order does not matter.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
        mallopt(M_TRIM_THRESHOLD, KEPT);
        mallopt(M_ARENA_MAX, HEAPS);
    }
}

/// Nothing to tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
