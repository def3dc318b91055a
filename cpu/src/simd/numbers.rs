//! The interpreter's vector micro-operations: numbers.

use super::float::set_order;
use super::fma::{fma_f32, fma_f64, fma_pd, fma_ps};
use super::lanes::Vector;
use super::moves::{pmovmskb, sign_mask};
use super::operand::check_alignment;
use super::packed::{Conversion, Operation};
use super::quick;
use super::vex::operand::raise_lanes;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::{Arith, Fused, IntSize};
use crate::op::Op;
use crate::vector_ops::VectorOps;
use rx86_softmmu::Access;

impl Cpu {
    /// The result of a scalar operation, once what it raised has been raised.
    #[inline(always)]
    fn raised<T>(&mut self, (value, flags): (T, u16)) -> Result<T, Exception> {
        self.raise_simd(flags)?;
        Ok(value)
    }

    /// The linear address of 128 or 256 bits.
    #[inline(always)]
    fn vectors_linear<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
        access: Access,
    ) -> Result<u64, Exception> {
        let bytes = 16 * N as u64;
        let linear = self.operand_linear(op, bytes, access)?;
        if aligned {
            check_alignment(linear, bytes)?;
        }
        Ok(linear)
    }
}

fn int_of(value: u64, size: IntSize) -> i64 {
    if size == IntSize::I32 { i64::from(value as i32) } else { value as i64 }
}

fn of_int(value: i64, size: IntSize) -> u64 {
    if size == IntSize::I32 { u64::from(value as u32) } else { value as u64 }
}

impl VectorOps for Cpu {
    type Vector = Vector;
    type Double = u64;
    type Single = u32;

    #[inline(always)]
    fn vector(&mut self, register: u8) -> Vector {
        Cpu::vector(self, register)
    }

    #[inline(always)]
    fn set_vector(&mut self, register: u8, value: Vector) {
        Cpu::set_vector(self, register, value);
    }

    #[inline(always)]
    fn upper(&mut self, register: u8) -> Vector {
        Vector(self.state.zmm[usize::from(register & 31)].0.as_chunks().0[1])
    }

    #[inline(always)]
    fn set_upper(&mut self, register: u8, value: Vector) {
        let lanes = self.state.zmm[usize::from(register & 31)].0.as_chunks_mut().0;
        (lanes[1], lanes[2], lanes[3]) = (value.0, [0; 2], [0; 2]);
    }

    #[inline(always)]
    fn clear_upper(&mut self, register: u8) {
        self.set_upper(register, Vector::ZERO);
    }

    #[inline(always)]
    fn double(&mut self, register: u8, half: usize) -> u64 {
        self.state.zmm[usize::from(register & 31)].0[half & 1]
    }

    #[inline(always)]
    fn set_double(&mut self, register: u8, half: usize, value: u64) {
        self.state.zmm[usize::from(register & 31)].0[half & 1] = value;
    }

    #[inline(always)]
    fn set_only_double(&mut self, register: u8, value: u64) {
        Cpu::set_vector(self, register, Vector::from_low(value));
    }

    #[inline(always)]
    fn single(&mut self, register: u8) -> u32 {
        self.state.zmm[usize::from(register & 31)].0[0] as u32
    }

    #[inline(always)]
    fn set_single(&mut self, register: u8, value: u32) {
        self.set_low_double(register, value);
    }

    #[inline(always)]
    fn set_only_single(&mut self, register: u8, value: u32) {
        Cpu::set_vector(self, register, Vector::from_low(u64::from(value)));
    }

    #[inline(always)]
    fn load_vectors<const N: usize>(&mut self, op: &Op, aligned: bool) -> Result<[Vector; N], Exception> {
        let linear = self.vectors_linear::<N>(op, aligned, Access::Read)?;
        self.read_lanes(op, linear)
    }

    #[inline(always)]
    fn store_vectors<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
        value: [Vector; N],
    ) -> Result<(), Exception> {
        let linear = self.vectors_linear::<N>(op, aligned, Access::Write)?;
        self.write_lanes(op, linear, value)
    }

    #[inline(always)]
    fn load_double(&mut self, op: &Op) -> Result<u64, Exception> {
        self.load_bytes(op).map(u64::from_le_bytes)
    }

    #[inline(always)]
    fn store_double(&mut self, op: &Op, value: u64) -> Result<(), Exception> {
        self.store_bytes(op, value.to_le_bytes())
    }

    #[inline(always)]
    fn load_single(&mut self, op: &Op) -> Result<u32, Exception> {
        self.load_bytes(op).map(u32::from_le_bytes)
    }

    #[inline(always)]
    fn store_single(&mut self, op: &Op, value: u32) -> Result<(), Exception> {
        self.store_bytes(op, value.to_le_bytes())
    }

    #[inline(always)]
    fn double_of(&mut self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn single_of(&mut self, value: u64) -> u32 {
        value as u32
    }

    #[inline(always)]
    fn double_bits(&mut self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn single_bits(&mut self, value: u32) -> u64 {
        u64::from(value)
    }

    #[inline(always)]
    fn vector_of_double(&mut self, value: u64) -> Vector {
        Vector::from_low(value)
    }

    #[inline(always)]
    fn vector_of_single(&mut self, value: u32) -> Vector {
        Vector::from_low(u64::from(value))
    }

    #[inline(always)]
    fn packed<O: Operation>(&mut self, a: Vector, b: Vector, immediate: u8) -> Vector {
        O::compute(a, b, immediate)
    }

    #[inline(always)]
    fn sign_bits(&mut self, a: Vector, lane_bits: u32) -> u64 {
        if lane_bits == 8 { pmovmskb(a) } else { sign_mask(a, lane_bits, 128 / lane_bits) }
    }

    #[inline(always)]
    fn extract(&mut self, a: Vector, lane_bits: u32, lane: u32) -> u64 {
        let mask = u64::MAX >> (64 - lane_bits);
        (a.bits() >> (lane_bits * lane)) as u64 & mask
    }

    #[inline(always)]
    fn insert(&mut self, a: Vector, lane_bits: u32, lane: u32, value: u64) -> Vector {
        let mask = u128::from(u64::MAX >> (64 - lane_bits));
        let shift = lane_bits * lane;
        Vector::from_bits(a.bits() & !(mask << shift) | (u128::from(value) & mask) << shift)
    }

    #[inline(always)]
    fn arith_single(&mut self, operation: Arith, a: u32, b: u32) -> Result<u32, Exception> {
        self.raised(quick::arith_f32(operation, a, b, self.state.mxcsr))
    }

    #[inline(always)]
    fn arith_double(&mut self, operation: Arith, a: u64, b: u64) -> Result<u64, Exception> {
        self.raised(quick::arith_f64(operation, a, b, self.state.mxcsr))
    }

    #[inline(always)]
    fn arith_singles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Vector; N],
        b: [Vector; N],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| quick::arith_f32x4(operation, a[i], b[i], mxcsr))
    }

    #[inline(always)]
    fn arith_doubles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Vector; N],
        b: [Vector; N],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| quick::arith_f64x2(operation, a[i], b[i], mxcsr))
    }

    #[inline(always)]
    fn fused_single(&mut self, operation: Fused, [a, b, c]: [u32; 3]) -> Result<u32, Exception> {
        self.raised(fma_f32(operation, a, b, c, self.state.mxcsr))
    }

    #[inline(always)]
    fn fused_double(&mut self, operation: Fused, [a, b, c]: [u64; 3]) -> Result<u64, Exception> {
        self.raised(fma_f64(operation, a, b, c, self.state.mxcsr))
    }

    #[inline(always)]
    fn fused_singles<const N: usize>(
        &mut self,
        operation: Fused,
        [a, b, c]: [[Vector; N]; 3],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| fma_ps(operation, a[i], b[i], c[i], mxcsr))
    }

    #[inline(always)]
    fn fused_doubles<const N: usize>(
        &mut self,
        operation: Fused,
        [a, b, c]: [[Vector; N]; 3],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| fma_pd(operation, a[i], b[i], c[i], mxcsr))
    }

    #[inline(always)]
    fn compare_single(&mut self, predicate: u8, a: u32, b: u32) -> Result<u32, Exception> {
        self.raised(quick::compare_f32(predicate, a, b, self.state.mxcsr))
    }

    #[inline(always)]
    fn compare_double(&mut self, predicate: u8, a: u64, b: u64) -> Result<u64, Exception> {
        self.raised(quick::compare_f64(predicate, a, b, self.state.mxcsr))
    }

    #[inline(always)]
    fn compare_singles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Vector; N],
        b: [Vector; N],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| quick::compare_f32x4(predicate, a[i], b[i], mxcsr))
    }

    #[inline(always)]
    fn compare_doubles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Vector; N],
        b: [Vector; N],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| quick::compare_f64x2(predicate, a[i], b[i], mxcsr))
    }

    #[inline(always)]
    fn order_single(&mut self, a: u32, b: u32, quiet: bool) -> Result<(), Exception> {
        let order = self.raised(quick::order_f32(a, b, quiet, self.state.mxcsr))?;
        set_order(self, order);
        Ok(())
    }

    #[inline(always)]
    fn order_double(&mut self, a: u64, b: u64, quiet: bool) -> Result<(), Exception> {
        let order = self.raised(quick::order_f64(a, b, quiet, self.state.mxcsr))?;
        set_order(self, order);
        Ok(())
    }

    #[inline(always)]
    fn widen(&mut self, a: u32) -> Result<u64, Exception> {
        self.raised(quick::f32_to_f64(a, self.state.mxcsr))
    }

    #[inline(always)]
    fn narrow(&mut self, a: u64) -> Result<u32, Exception> {
        self.raised(quick::f64_to_f32(a, self.state.mxcsr))
    }

    #[inline(always)]
    fn single_of_int(&mut self, a: u64, size: IntSize) -> Result<u32, Exception> {
        self.raised(quick::int_to_f32(int_of(a, size), self.state.mxcsr))
    }

    #[inline(always)]
    fn double_of_int(&mut self, a: u64, size: IntSize) -> Result<u64, Exception> {
        self.raised(quick::int_to_f64(int_of(a, size), self.state.mxcsr))
    }

    #[inline(always)]
    fn int_of_single(&mut self, a: u32, size: IntSize, truncate: bool) -> Result<u64, Exception> {
        let value = self.raised(quick::f32_to_int(a, size, truncate, self.state.mxcsr))?;
        Ok(of_int(value, size))
    }

    #[inline(always)]
    fn int_of_double(&mut self, a: u64, size: IntSize, truncate: bool) -> Result<u64, Exception> {
        let value = self.raised(quick::f64_to_int(a, size, truncate, self.state.mxcsr))?;
        Ok(of_int(value, size))
    }

    #[inline(always)]
    fn convert<const N: usize>(
        &mut self,
        conversion: Conversion,
        a: [Vector; N],
    ) -> Result<[Vector; N], Exception> {
        raise_lanes(self, |i, mxcsr| conversion.compute(a[i], mxcsr))
    }
}
