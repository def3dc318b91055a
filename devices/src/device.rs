//! What every chip on the board offers: registers, and a sense of time that the board gives it.

/// Nanoseconds of guest time since the machine was switched on; never goes back.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now_ns(&self) -> u64;
}

/// A chip with registers at a range of ports or physical addresses. It drives wires; it never calls another chip.
pub trait Device: Send {
    /// The chip's name, for traces and error messages.
    fn name(&self) -> &'static str;

    /// Reads `data.len()` (1, 2, 4 or 8) bytes at `offset` from the start of the range.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset` from the start of the range.
    fn write(&mut self, offset: u64, data: &[u8]);

    /// When the chip next wants `advance`, in the clock's nanoseconds.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Lets the chip do what its timers owe up to `now_ns`.
    fn advance(&mut self, _now_ns: u64) {}

    /// The board's reset line.
    fn reset(&mut self);
}
