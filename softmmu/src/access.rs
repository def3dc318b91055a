//! What an access does, and with which privilege (SDM volume 3, 5.6.1 "Determination of Access Rights").

/// What a linear address is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write; also the write check of a read-modify-write.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// The privilege of an access; each has its own TLB arrays, so that a change of privilege costs only a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// CPL below 3 with EFLAGS.AC clear, and every implicit supervisor access (descriptor tables, TSS) at any CPL.
    Supervisor,
    /// CPL below 3 with EFLAGS.AC set: SMAP does not apply to explicit data accesses.
    SupervisorAc,
    /// CPL 3.
    User,
}

impl View {
    /// How many views there are.
    pub const COUNT: usize = 3;

    /// The view of explicit accesses at `cpl` with EFLAGS.AC as given.
    #[inline]
    pub fn of(cpl: u8, ac: bool) -> Self {
        match (cpl, ac) {
            (3, _) => Self::User,
            (_, true) => Self::SupervisorAc,
            (_, false) => Self::Supervisor,
        }
    }
}
