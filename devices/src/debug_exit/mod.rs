//! The isa-debug-exit port: a guest under test writes a value and the machine ends with it.

use crate::Device;

/// The port's value, kept until the board takes it.
#[derive(Debug, Default)]
pub struct DebugExit {
    requested: Option<u32>,
}

impl DebugExit {
    /// The port before anything was written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the value that the guest wrote; the machine's exit status is twice that plus one.
    pub fn take_request(&mut self) -> Option<u32> {
        self.requested.take()
    }
}

impl Device for DebugExit {
    fn name(&self) -> &'static str {
        "debug-exit"
    }

    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        let mut value = [0; 4];
        let len = data.len().min(value.len());
        value[..len].copy_from_slice(&data[..len]);
        // The first value counts, should the guest go on.
        self.requested.get_or_insert(u32::from_le_bytes(value));
    }

    fn reset(&mut self) {
        self.requested = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_value_of_any_width() {
        for (data, expected) in [(&[7][..], 7), (&[0x34, 0x12], 0x1234), (&[1, 0, 0, 0x80], 0x8000_0001)] {
            let mut port = DebugExit::new();
            port.write(0, data);
            port.write(0, &[99]);
            assert_eq!(port.take_request(), Some(expected));
            assert_eq!(port.take_request(), None);
        }
    }
}
