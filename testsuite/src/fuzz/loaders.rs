//! The loaders of kernels and the inspection of initial RAM disks, on damaged and on invented files.

use super::Bytes;
use rx86::initrd::inspect::inspect;
use rx86_firmware::{BootProtocol, BootRequest, load};
use rx86_softmmu::GuestMemory;

const RAM_BYTES: u64 = 32 << 20;

/// Loads `data` as a kernel. The first byte says what is put right in it, so that more than the magic numbers is read.
///
/// # Panics
/// If the loader does, which is what is looked for, or if the host has no memory.
pub fn kernel(data: &[u8]) {
    let mut input = Bytes(data);
    let (kind, protocol) = (input.u8(), input.u8());
    let initrd = input.take(usize::from(protocol >> 2)).to_vec();
    let mut image = input.take(data.len()).to_vec();
    match kind % 4 {
        1 => put_right(
            &mut image,
            &[(0x1f1, &[kind >> 5]), (0x1fe, &[0x55, 0xaa]), (0x202, b"HdrS"), (0x206, &[0xf, 2])],
        ),
        2 => put_right(&mut image, &[(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]), (16, &[2, 0, 62, 0])]),
        3 => {
            let header: &[(usize, &[u8])] = &[
                (0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]),
                (16, &[2, 0, 62, 0]),
                (32, &64u64.to_le_bytes()),
                (54, &[56, 0, kind >> 4, 0]),
                (64, &[kind >> 6, 0, 0, 0]),
            ];
            put_right(&mut image, header);
        }
        _ => {}
    }
    let protocol = match protocol & 3 {
        0 => BootProtocol::Bits64,
        1 => BootProtocol::Bits32,
        _ => BootProtocol::Auto,
    };
    let memory = GuestMemory::new(RAM_BYTES).expect("guest memory");
    let request = BootRequest {
        kernel: &image,
        initrd: (!initrd.is_empty()).then_some(&initrd[..]),
        cmdline: "console=ttyS0",
        cpus: 1 + u32::from(kind >> 6),
        rng_seed: [0; 32],
        protocol,
    };
    if let Err(error) = load(&memory, &request) {
        assert!(!error.to_string().contains('\n'), "an error of more than one line: {error}");
    }
}

/// Looks through `data` as an initial RAM disk; the first byte chooses the magic number in front of it.
///
/// # Panics
/// If the inspection does, which is what is looked for.
pub fn initrd(data: &[u8]) {
    let mut input = Bytes(data);
    let magic: &[u8] = match input.u8() % 9 {
        0 => b"070701",
        1 => b"070702",
        2 => &[0x1f, 0x8b, 8, 0],
        3 => &[0x28, 0xb5, 0x2f, 0xfd],
        4 => &[0xfd, b'7', b'z', b'X', b'Z', 0],
        5 => b"BZh9",
        6 => &[0x5d, 0, 0],
        7 => &[0x02, 0x21, 0x4c, 0x18],
        _ => &[],
    };
    let image = [magic, input.take(data.len())].concat();
    let _ = inspect(&image);
}

/// Writes `pieces` into an image that is long enough for them.
fn put_right(image: &mut Vec<u8>, pieces: &[(usize, &[u8])]) {
    for (at, bytes) in pieces {
        let end = at + bytes.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        image[*at..end].copy_from_slice(bytes);
    }
}
