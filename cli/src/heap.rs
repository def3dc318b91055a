//! How the process uses the C library's heap (glibc manual, "Malloc Tunable Parameters").

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "calls the C library")
)]

/// Has the heap keep what is freed, for the next one who needs memory.
///
/// Translating takes and frees megabytes time and again. By itself the heap gives what is large, or at its end, back to the host
/// each time, which clears it anew page by page. To be called before there are other threads.
pub fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Larger ones would be no faster, and a full kernel's boot would leave more behind.
        const MMAP_THRESHOLD_BYTES: i32 = 4 << 20;
        const TRIM_THRESHOLD_BYTES: i32 = 16 << 20;
        const TOP_PAD_BYTES: i32 = 1 << 20;
        let parameters = [
            (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
            (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
            (libc::M_TOP_PAD, TOP_PAD_BYTES),
        ];
        for (parameter, value) in parameters {
            // SAFETY: it changes numbers that only the allocator looks at. One that does not know them goes on as it is.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
