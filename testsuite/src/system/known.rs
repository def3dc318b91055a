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
    /// The guest's name; empty for every guest.
    pub guest: &'static str,
    /// Part of the names of the cases that it is about.
    pub case: &'static str,
    /// The record's fields that may differ; all if there is none.
    pub fields: &'static [&'static str],
    /// The bits that may differ.
    pub bits: u128,
    /// Who is right.
    pub right: Right,
    /// Why, with the SDM's section.
    pub reason: &'static str,
}

/// Everything about a case on which QEMU is wrong.
const fn qemu_is_wrong(guest: &'static str, case: &'static str, reason: &'static str) -> Known {
    Known { guest, case, fields: &[], bits: u128::MAX, right: Right::Rx86, reason }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        guest: "",
        case: "",
        fields: &["pushed[2]", "pushed[3]"],
        bits: 1 << 16,
        right: Right::Rx86,
        reason: "RF is set in the RFLAGS image that a fault pushes (SDM vol. 3, 17.3.1.1); QEMU leaves it as it was",
    },
    Known {
        guest: "descriptor looks",
        case: "LAR LSL VERR VERW",
        fields: &["eax"],
        bits: 0xf_0000,
        right: Right::Either,
        reason: "LAR leaves bits 16 to 19 undefined (SDM vol. 2, LAR)",
    },
    qemu_is_wrong(
        "segment limits",
        "",
        "QEMU's TCG checks neither limits nor types of segments on accesses (SDM vol. 3, 5.3 and 5.5)",
    ),
    qemu_is_wrong("descriptor looks", "LTR of null", "LTR of a null selector is #GP(0) (SDM vol. 2, LTR)"),
    qemu_is_wrong(
        "far transfers",
        "gate to conforming code, CPL 3",
        "without a change of privilege CS.RPL is CPL (SDM vol. 2, CALL)",
    ),
    qemu_is_wrong("interrupts", "INT1", "INT1 raises #DB, a trap (SDM vol. 2, INT1)"),
    qemu_is_wrong("interrupts", "LOCK MOV", "LOCK before MOV is #UD (SDM vol. 2, LOCK)"),
    qemu_is_wrong(
        "interrupts",
        "MOV from CR1, CPL 3",
        "an invalid opcode comes before the check of CPL (SDM vol. 3, 6.9)",
    ),
    qemu_is_wrong("interrupts", "alignment fault", "QEMU's TCG does not check alignment (SDM vol. 3, 6.15, #AC)"),
];
