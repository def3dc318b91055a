//! The leaves of AES, PCLMULQDQ, SHA and GFNI by the quickest twin that the host has.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use super::{
    aes::{aesdec, aesdeclast, aesenc, aesenclast, aesimc, aeskeygenassist, pclmulqdq},
    gfni::{gf2p8affineinvqb, gf2p8affineqb, gf2p8mulb},
    sha::{sha1msg1, sha1msg2, sha1nexte, sha1rnds4, sha256msg1, sha256msg2, sha256rnds2},
};

#[cfg(target_arch = "x86_64")]
pub(crate) use super::crypto_host::*;
