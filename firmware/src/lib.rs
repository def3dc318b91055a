//! rx86 firmware.
