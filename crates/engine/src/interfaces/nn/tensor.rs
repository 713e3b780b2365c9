//! `tensor` of `wasi:nn/tensor`: values of a guest or of a model, and their way from one to the other.

use std::borrow::Cow;
use std::fmt::Debug;

use tract_onnx::prelude::{DatumType, Tensor as Array};

use super::Failure;
use crate::interfaces::types::{Code, TensorType};
use crate::memory::{Reserved, SETTINGS};

/// The most dimensions, which is far more than operators of ONNX have.
pub const RANK: usize = 16;

/// The types of elements that both tract and the interface have.
const TYPES: [(DatumType, TensorType); 6] = [
    (DatumType::F16, TensorType::Fp16),
    (DatumType::F32, TensorType::Fp32),
    (DatumType::F64, TensorType::Fp64),
    (DatumType::U8, TensorType::U8),
    (DatumType::I32, TensorType::I32),
    (DatumType::I64, TensorType::I64),
];

/// A tensor of a guest, or an output of a model. The constructor of a guest's tensor cannot fail, so the tensor is checked when it
/// is used.
#[derive(Debug)]
pub struct Tensor {
    dimensions: Vec<u32>,
    ty: TensorType,
    data: Vec<u8>,
    /// Whether there was no room for the data, which are then empty.
    lacked_room: bool,
    _reserved: Reserved,
}

impl Tensor {
    /// Copies the data, if there is room for them.
    pub fn new(dimensions: Vec<u32>, ty: TensorType, data: &[u8]) -> Tensor {
        let mut reserved = Reserved::default();
        let lacked_room = !reserved.resize(data.len() as u64);
        let data = if lacked_room { Vec::new() } else { data.to_vec() };
        Tensor { dimensions, ty, data, lacked_room, _reserved: reserved }
    }

    /// Its shape: the size of each dimension.
    pub fn dimensions(&self) -> &[u32] {
        &self.dimensions
    }

    /// The type of its elements.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Its elements, each in little-endian order, those of the last dimension one after the other.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Converts it to tract's type.
    ///
    /// # Errors
    /// If it has another number of bytes than its dimensions and its type say, or its type is not provided.
    pub fn array(&self) -> Result<Array, Failure> {
        if self.lacked_room {
            return Err(too_large());
        }
        let shape = self.shape()?;
        let Some((ty, _)) = TYPES.iter().find(|(_, ty)| *ty == self.ty) else {
            return Err(unsupported(&self.ty));
        };
        let mut array = Array::zero_dt(*ty, &shape).map_err(|error| unsupported(&error))?;
        array.as_bytes_mut().copy_from_slice(&self.data);
        Ok(array)
    }

    /// Converts an output of a model.
    ///
    /// # Errors
    /// If there is no room for it, or the interface has no type for its elements.
    pub fn from_array(array: &Array) -> Result<Tensor, Failure> {
        // The interface has no truth values, and no dimensions as values.
        let array = match array.datum_type() {
            DatumType::Bool => array.cast_to::<u8>(),
            DatumType::TDim => array.cast_to::<i64>(),
            _ => Ok(Cow::Borrowed(array)),
        };
        let array = array.map_err(|error| unsupported(&error))?;
        let Some((_, ty)) = TYPES.iter().find(|(ty, _)| *ty == array.datum_type()) else {
            return Err(unsupported(&array.datum_type()));
        };
        let dimensions: Result<Vec<u32>, _> =
            array.shape().iter().map(|it| (*it).try_into()).collect();
        let dimensions = dimensions.map_err(|_| too_large())?;
        // A single value has one dimension (`wasi:nn/tensor`).
        let dimensions = if dimensions.is_empty() { vec![1] } else { dimensions };
        let tensor = Tensor::new(dimensions, *ty, array.as_bytes());
        if tensor.lacked_room { Err(too_large()) } else { Ok(tensor) }
    }

    /// The shape, if the data have its size.
    fn shape(&self) -> Result<Vec<usize>, Failure> {
        let size = u64::from(size(self.ty));
        let wanted = self
            .dimensions
            .iter()
            .try_fold(size, |bytes, dimension| bytes.checked_mul(u64::from(*dimension)));
        if self.dimensions.len() > RANK || wanted != Some(self.data.len() as u64) {
            let reason = format!(
                "a tensor of {:?} with the dimensions {:?} cannot have {} bytes",
                self.ty,
                self.dimensions.iter().take(RANK).collect::<Vec<_>>(),
                self.data.len(),
            );
            return Err(Failure::new(Code::InvalidArgument, reason));
        }
        Ok(self.dimensions.iter().map(|it| *it as usize).collect())
    }
}

/// The failure if there is no room.
pub fn too_large() -> Failure {
    Failure::new(Code::TooLarge, format!("the limit of memory leaves no room ({SETTINGS})"))
}

fn unsupported(what: &dyn Debug) -> Failure {
    Failure::new(Code::UnsupportedOperation, format!("tensors of {what:?} are not provided"))
}

/// The bytes of an element.
fn size(ty: TensorType) -> u8 {
    match ty {
        TensorType::U8 => 1,
        TensorType::Fp16 | TensorType::Bf16 => 2,
        TensorType::Fp32 | TensorType::I32 => 4,
        TensorType::Fp64 | TensorType::I64 => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(dimensions: &[u32], ty: TensorType, bytes: usize) -> Option<Code> {
        let tensor = Tensor::new(dimensions.to_vec(), ty, &vec![0; bytes]);
        tensor.array().err().map(|failure| failure.code)
    }

    #[test]
    fn a_tensor_whose_data_do_not_fill_its_dimensions_is_refused() {
        assert_eq!(code(&[2, 3], TensorType::Fp32, 24), None);
        assert_eq!(code(&[2, 3, 0], TensorType::Fp32, 0), None);
        assert_eq!(code(&[], TensorType::I64, 8), None);
        for (dimensions, bytes) in [
            (&[2, 3][..], 23),
            (&[2, 3], 25),
            (&[2, 3], 0),
            (&[], 0),
            // Of these, the product is 0 modulo 2^64 or 2^32.
            (&[1 << 31, 1 << 31, 4], 0),
            (&[1 << 30], 0),
            (&[1; 17], 4),
        ] {
            let refused = code(dimensions, TensorType::Fp32, bytes);
            assert_eq!(refused, Some(Code::InvalidArgument), "{dimensions:?} {bytes}");
        }
        assert_eq!(code(&[1], TensorType::Bf16, 2), Some(Code::UnsupportedOperation));
    }

    #[test]
    fn elements_come_back_as_they_were_given() {
        for (array_type, ty) in TYPES {
            let data: Vec<u8> = (0..6 * size(ty)).collect();
            let array = Tensor::new(vec![3, 2], ty, &data).array().expect("an array");
            assert_eq!((array.datum_type(), array.shape()), (array_type, &[3, 2][..]));
            let tensor = Tensor::from_array(&array).expect("a tensor");
            assert_eq!((tensor.ty(), tensor.dimensions()), (ty, &[3, 2][..]));
            assert_eq!(tensor.data(), data);
        }
    }

    #[test]
    fn a_single_value_has_one_dimension_and_a_truth_value_is_a_byte() {
        let truth = Tensor::from_array(&Array::from(true)).expect("a tensor");
        assert_eq!(
            (truth.dimensions(), truth.ty(), truth.data()),
            (&[1][..], TensorType::U8, &[1][..])
        );
    }
}
