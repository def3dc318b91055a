//! The micro-operations of vector instructions (SDM vol. 1, chapters 10 to 14), beside `MicroOps`.
//!
//! A vector register is 128 bits with 128 more above them (`upper`). Scalars in vector registers are values of their own
//! types, so that a translator can keep them where the host's floating point wants them.

use crate::float::{Arith, Fused, IntSize};
use crate::op::Op;
use crate::ops::MicroOps;
use crate::simd::packed::{Conversion, Operation};

/// What vector instruction meanings may ask of an engine.
///
/// Floating-point operations raise what they raise by MXCSR: flags become sticky, and an unmasked exception is a fault.
pub trait VectorOps: MicroOps {
    /// 128 bits.
    type Vector: Copy;
    /// 64 bits of a vector register.
    type Double: Copy;
    /// 32 bits of a vector register.
    type Single: Copy;

    /// An XMM register.
    fn vector(&mut self, register: u8) -> Self::Vector;
    /// Sets an XMM register and leaves the bits above it.
    fn set_vector(&mut self, register: u8, value: Self::Vector);
    /// Bits 128 to 255 of a YMM register.
    fn upper(&mut self, register: u8) -> Self::Vector;
    /// Sets bits 128 to 255, and clears those above.
    fn set_upper(&mut self, register: u8, value: Self::Vector);
    /// Clears everything above an XMM register.
    fn clear_upper(&mut self, register: u8);
    /// Quadword `half` of an XMM register.
    fn double(&mut self, register: u8, half: usize) -> Self::Double;
    /// Replaces a quadword of an XMM register.
    fn set_double(&mut self, register: u8, half: usize, value: Self::Double);
    /// Sets the low quadword of an XMM register and clears the high one.
    fn set_only_double(&mut self, register: u8, value: Self::Double);
    /// The low doubleword of an XMM register.
    fn single(&mut self, register: u8) -> Self::Single;
    /// Replaces the low doubleword of an XMM register.
    fn set_single(&mut self, register: u8, value: Self::Single);
    /// Sets the low doubleword of an XMM register and clears the rest.
    fn set_only_single(&mut self, register: u8, value: Self::Single);

    /// Reads `N` times 128 bits from the memory operand; #GP(0) unless it is `aligned` to them, if that is asked.
    fn load_vectors<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// Writes them.
    fn store_vectors<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
        value: [Self::Vector; N],
    ) -> Result<(), Self::Fault>;
    /// Reads 64 bits from the memory operand.
    fn load_double(&mut self, op: &Op) -> Result<Self::Double, Self::Fault>;
    /// Writes 64 bits to the memory operand.
    fn store_double(&mut self, op: &Op, value: Self::Double) -> Result<(), Self::Fault>;
    /// Reads 32 bits from the memory operand.
    fn load_single(&mut self, op: &Op) -> Result<Self::Single, Self::Fault>;
    /// Writes 32 bits to the memory operand.
    fn store_single(&mut self, op: &Op, value: Self::Single) -> Result<(), Self::Fault>;

    /// The bits of an integer of 64 bits.
    fn double_of(&mut self, value: Self::Int) -> Self::Double;
    /// The bits of an integer of width 32.
    fn single_of(&mut self, value: Self::Int) -> Self::Single;
    /// The bits as an integer.
    fn double_bits(&mut self, value: Self::Double) -> Self::Int;
    /// The bits as an integer of width 32.
    fn single_bits(&mut self, value: Self::Single) -> Self::Int;
    /// A quadword in the low half, the high half clear.
    fn vector_of_double(&mut self, value: Self::Double) -> Self::Vector;
    /// A doubleword in the lowest lane, the rest clear.
    fn vector_of_single(&mut self, value: Self::Single) -> Self::Vector;

    /// `O` of two vectors and an immediate, which floating point has no part in.
    fn packed<O: Operation>(&mut self, a: Self::Vector, b: Self::Vector, immediate: u8) -> Self::Vector;
    /// Replaces an XMM register by `O`, a bitwise operation, of it and `b`. An engine may do so in parts.
    #[inline(always)]
    fn bitwise<O: Operation>(&mut self, register: u8, b: Self::Vector) {
        let a = self.vector(register);
        let value = self.packed::<O>(a, b, 0);
        self.set_vector(register, value);
    }
    /// The sign bits of the lanes of 8, 32 or 64 bits, lane 0 lowest.
    fn sign_bits(&mut self, a: Self::Vector, lane_bits: u32) -> Self::Int;
    /// Lane `lane` of width `lane_bits`, zero-extended.
    fn extract(&mut self, a: Self::Vector, lane_bits: u32, lane: u32) -> Self::Int;
    /// `a` with lane `lane` of width `lane_bits` replaced by the low bits of a value.
    fn insert(&mut self, a: Self::Vector, lane_bits: u32, lane: u32, value: Self::Int) -> Self::Vector;

    /// The fault, if the engine has no floating point of its own; asked before anything else is done.
    #[inline(always)]
    fn need_floating_point(&mut self) -> Result<(), Self::Fault> {
        Ok(())
    }
    /// Arithmetic of single precision.
    fn arith_single(
        &mut self,
        operation: Arith,
        a: Self::Single,
        b: Self::Single,
    ) -> Result<Self::Single, Self::Fault>;
    /// Arithmetic of double precision.
    fn arith_double(
        &mut self,
        operation: Arith,
        a: Self::Double,
        b: Self::Double,
    ) -> Result<Self::Double, Self::Fault>;
    /// Arithmetic of all single-precision lanes; their exceptions are raised together.
    fn arith_singles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Self::Vector; N],
        b: [Self::Vector; N],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// Arithmetic of all double-precision lanes.
    fn arith_doubles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Self::Vector; N],
        b: [Self::Vector; N],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// `a * b + c` and its kin, in single precision.
    fn fused_single(&mut self, operation: Fused, abc: [Self::Single; 3])
    -> Result<Self::Single, Self::Fault>;
    /// The same in double precision.
    fn fused_double(&mut self, operation: Fused, abc: [Self::Double; 3])
    -> Result<Self::Double, Self::Fault>;
    /// The same in all single-precision lanes.
    fn fused_singles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Self::Vector; N]; 3],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// The same in all double-precision lanes.
    fn fused_doubles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Self::Vector; N]; 3],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// A comparison by predicate (0 to 31, as encoded in VCMPSS): all ones or zeros.
    fn compare_single(
        &mut self,
        predicate: u8,
        a: Self::Single,
        b: Self::Single,
    ) -> Result<Self::Single, Self::Fault>;
    /// The same in double precision.
    fn compare_double(
        &mut self,
        predicate: u8,
        a: Self::Double,
        b: Self::Double,
    ) -> Result<Self::Double, Self::Fault>;
    /// The same in all single-precision lanes.
    fn compare_singles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Self::Vector; N],
        b: [Self::Vector; N],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// The same in all double-precision lanes.
    fn compare_doubles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Self::Vector; N],
        b: [Self::Vector; N],
    ) -> Result<[Self::Vector; N], Self::Fault>;
    /// UCOMISS if `quiet`, else COMISS: sets the arithmetic flags.
    fn order_single(&mut self, a: Self::Single, b: Self::Single, quiet: bool) -> Result<(), Self::Fault>;
    /// UCOMISD if `quiet`, else COMISD.
    fn order_double(&mut self, a: Self::Double, b: Self::Double, quiet: bool) -> Result<(), Self::Fault>;
    /// Single to double precision.
    fn widen(&mut self, a: Self::Single) -> Result<Self::Double, Self::Fault>;
    /// Double to single precision.
    fn narrow(&mut self, a: Self::Double) -> Result<Self::Single, Self::Fault>;
    /// A signed integer of a size (the upper bits do not matter) to single precision.
    fn single_of_int(&mut self, a: Self::Int, size: IntSize) -> Result<Self::Single, Self::Fault>;
    /// A signed integer of a size to double precision.
    fn double_of_int(&mut self, a: Self::Int, size: IntSize) -> Result<Self::Double, Self::Fault>;
    /// Single precision to a signed integer of a size, zero-extended to 64 bits: truncated, or rounded by MXCSR.
    fn int_of_single(
        &mut self,
        a: Self::Single,
        size: IntSize,
        truncate: bool,
    ) -> Result<Self::Int, Self::Fault>;
    /// Double precision to a signed integer.
    fn int_of_double(
        &mut self,
        a: Self::Double,
        size: IntSize,
        truncate: bool,
    ) -> Result<Self::Int, Self::Fault>;
    /// A conversion of all lanes that keeps their size.
    fn convert<const N: usize>(
        &mut self,
        conversion: Conversion,
        a: [Self::Vector; N],
    ) -> Result<[Self::Vector; N], Self::Fault>;
}
