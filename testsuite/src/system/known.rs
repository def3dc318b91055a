//! Where rx86 and QEMU are known to disagree, and whom the SDM supports.

/// Which side does what the SDM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// rx86.
    Rx86,
    /// QEMU.
    Qemu,
    /// The SDM leaves it open.
    Either,
}

/// One disagreement. It must show up; if it no longer does, the test fails.
pub struct Known {
    /// The guest's name.
    pub guest: &'static str,
    /// Part of the names of the cases that it is about.
    pub case: &'static str,
    /// The record's fields that may differ.
    pub fields: &'static [&'static str],
    /// Who is right.
    pub right: Right,
    /// Why, with the SDM's section.
    pub reason: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[];
