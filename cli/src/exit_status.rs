//! The command's exit statuses. Ours are even; a guest's isa-debug-exit always gives an odd one, so they never collide.

/// The guest powered itself off.
pub const POWER_OFF: u8 = 0;
/// Bad arguments or input files, or the host failed: nothing was booted, or the run could not go on.
pub const HOST_ERROR: u8 = 2;
/// The guest reset itself and `--no-reboot` was given.
pub const GUEST_RESET: u8 = 4;
/// The guest's processor shut down after a triple fault.
pub const TRIPLE_FAULT: u8 = 6;
/// The user stopped the machine: the escape key, a signal, or a closed standard output.
pub const STOPPED: u8 = 8;
/// The guest's processor halted with interrupts off, so that nothing can wake it.
pub const HALTED_FOR_GOOD: u8 = 10;
/// `rx86 diff` found a difference.
pub const DIFFERENT: u8 = 12;

/// The status for a value that the guest wrote to isa-debug-exit: `value * 2 + 1`, as in QEMU.
pub fn debug_exit(value: u32) -> u8 {
    (value << 1 | 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_exit_never_equals_a_status_of_ours() {
        let ours = [POWER_OFF, HOST_ERROR, GUEST_RESET, TRIPLE_FAULT, STOPPED, HALTED_FOR_GOOD, DIFFERENT];
        for value in (0..300).chain([u32::MAX]) {
            assert!(!ours.contains(&debug_exit(value)), "{value}");
        }
        assert!(ours.iter().enumerate().all(|(i, status)| !ours[..i].contains(status)));
        assert_eq!(debug_exit(0x10), 33);
    }
}
