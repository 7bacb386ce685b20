//! Matrix products through cublasLt.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::size_of;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::{result, sys};
use cudarc::driver::CudaStream;

use super::{Allocation, Device, failed};
use crate::gemm::{Epilogue, Gemm};
use crate::{Error, Result, Type};

/// Bytes that a product may use beside its operands: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// The library's handle, its workspace, and what it chose for each kind of product.
pub(super) struct Products {
    handle: Handle,
    workspace: Allocation,
    /// None where the library has no way to do it.
    plans: Mutex<HashMap<Kind, Option<Arc<Plan>>>>,
}

struct Handle(sys::cublasLtHandle_t);

// SAFETY: the library's handles may be used from any thread, and at the same time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created by `create_handle` and destroyed once.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// Everything that the library's choice depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    m: usize,
    n: usize,
    k: usize,
    batch: usize,
    transposed: (bool, bool),
    /// Values from row to row of the factors and of the result.
    strides: [usize; 3],
    single_precision: bool,
    accumulate: bool,
    epilogue: u32,
    /// Largest power of two up to 256 that every address is a multiple of.
    alignment: u32,
}

/// Descriptions of a product and the algorithm for it.
///
/// The library thinks in columns, we in rows: it is asked for the transpose, `toᵀ = bᵀ aᵀ`, whose
/// columns are our rows. So its first factor is our second.
struct Plan {
    descriptor: sys::cublasLtMatmulDesc_t,
    first: sys::cublasLtMatrixLayout_t,
    second: sys::cublasLtMatrixLayout_t,
    to: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    /// Descriptors hold the addresses of biases, which change from call to call.
    in_use: Mutex<()>,
}

// SAFETY: descriptions are plain memory of the library's; changes are made under `in_use`.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: created in `Plan::new` and destroyed once.
        unsafe {
            let _ = result::destroy_matmul_desc(self.descriptor);
            for layout in [self.first, self.second, self.to] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Products {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        super::require_library(
            &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
            "install the CUDA libraries, or name their folder in FORERUNNER_CUDA_LIBS",
        )?;
        let handle = Handle(result::create_handle().map_err(failed("cublasLtCreate"))?);
        // SAFETY: the workspace is written by the library before it is read.
        let address =
            unsafe { cudarc::driver::result::malloc_async(stream.cu_stream(), WORKSPACE) };
        let address = address.map_err(failed("malloc_async"))?;
        let workspace = Allocation { address, stream: Arc::clone(stream) };
        Ok(Self { handle, workspace, plans: Mutex::default() })
    }

    fn plan(&self, kind: Kind) -> Result<Option<Arc<Plan>>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&kind) {
            return Ok(plan.clone());
        }
        let plan = match Plan::new(&self.handle, kind) {
            Ok(plan) => Some(Arc::new(plan)),
            Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => None,
            Err(error) => return Err(Error::device(kind.text(), error)),
        };
        plans.insert(kind, plan.clone());
        Ok(plan)
    }
}

impl Kind {
    fn new(product: &Gemm<'_>) -> Self {
        let &Gemm { m, n, k, batch, a, b, to_stride, accumulate, plus, .. } = product;
        let to = &product.to;
        let (code, bias, kept) = epilogue(product);
        let added = plus.map_or(0, |(_, plus)| plus.address());
        let factors = [a.values.address(), b.values.address()];
        let addresses = [factors[0], factors[1], to.address(), added, bias, kept];
        // Later matrices of a batch are no better aligned than the steps between them.
        let strides = [a.stored(m, k).2, b.stored(k, n).2, to_stride.unwrap_or(n)];
        let steps = [
            a.stored(m, k).0 * strides[0] * a.values.type_().bytes(),
            b.stored(k, n).0 * strides[1] * b.values.type_().bytes(),
            m * strides[2] * to.type_().bytes(),
        ];
        let steps = if batch > 1 { steps.map(|step| step as u64) } else { [0; 3] };
        let lowest = addresses.iter().chain(&steps).fold(256, |bits, address| bits | address);
        Self {
            m,
            n,
            k,
            batch,
            transposed: (a.transposed, b.transposed),
            strides,
            single_precision: to.type_() == Type::F32,
            accumulate: accumulate || plus.is_some(),
            epilogue: code as u32,
            alignment: 1 << lowest.trailing_zeros(),
        }
    }

    fn text(&self) -> String {
        let Self { m, n, k, batch, .. } = self;
        format!("gemm of {batch} x {m} x {n} x {k}")
    }
}

/// The library's name for what is done before the result is written, and where its vectors and matrices
/// lie.
fn epilogue(product: &Gemm<'_>) -> (sys::cublasLtEpilogue_t, u64, u64) {
    use sys::cublasLtEpilogue_t as Name;
    match &product.epilogue {
        Epilogue::None => (Name::CUBLASLT_EPILOGUE_DEFAULT, 0, 0),
        Epilogue::Bias(bias) => (Name::CUBLASLT_EPILOGUE_BIAS, bias.address(), 0),
        Epilogue::BiasGelu(bias, before) => {
            (Name::CUBLASLT_EPILOGUE_GELU_AUX_BIAS, bias.address(), before.address())
        }
        Epilogue::GeluGradient(before) => (Name::CUBLASLT_EPILOGUE_DGELU, 0, before.address()),
    }
}

impl Device {
    /// Whether the library does such a product in one step.
    pub(crate) fn has_product(&self, product: &Gemm<'_>) -> Result<bool> {
        Ok(self.products.plan(Kind::new(product))?.is_some())
    }

    pub(crate) fn gemm(&self, product: &Gemm<'_>) -> Result<()> {
        let &Gemm { a, b, accumulate, scale, plus, .. } = product;
        let Gemm { to, .. } = product;
        let (_, bias, kept) = epilogue(product);
        let (old, added) = match plus {
            Some((factor, plus)) => (factor, plus.address()),
            None => (if accumulate { 1.0f32 } else { 0.0 }, to.address()),
        };
        let kind = Kind::new(product);
        let Some(plan) = self.products.plan(kind)? else {
            return Err(Error::device(kind.text(), "the library has no way to do it"));
        };
        let guard = plan.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        self.enter()?;
        // SAFETY: sizes were checked against the views, which live until the product is queued, and
        // whose memory is freed on the same stream, in order. The library copies the description.
        unsafe {
            use sys::cublasLtMatmulDescAttributes_t as Attribute;
            if bias != 0 {
                set(&plan, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)
                    .map_err(failed("cublasLt"))?;
            }
            if kept != 0 {
                set(&plan, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &kept)
                    .map_err(failed("cublasLt"))?;
            }
            result::matmul(
                self.products.handle.0,
                plan.descriptor,
                std::ptr::from_ref(&scale).cast(),
                std::ptr::from_ref(&old).cast(),
                b.values.address() as *const c_void,
                plan.first,
                a.values.address() as *const c_void,
                plan.second,
                added as *const c_void,
                plan.to,
                to.address() as *mut c_void,
                plan.to,
                &raw const plan.algorithm,
                self.products.workspace.address() as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
            .map_err(failed("cublasLtMatmul"))?;
        }
        drop(guard);
        Ok(())
    }
}

/// Sets an attribute of the description.
///
/// # Safety
///
/// `T` is the attribute's type, and nobody else uses the plan.
unsafe fn set<T>(
    plan: &Plan,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> std::result::Result<(), result::CublasError> {
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the value has the size that is named.
    unsafe { result::set_matmul_desc_attribute(plan.descriptor, attribute, value, size_of::<T>()) }
}

impl Plan {
    fn new(handle: &Handle, kind: Kind) -> std::result::Result<Self, result::CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        use sys::cudaDataType::{CUDA_R_16BF, CUDA_R_32F};
        let Kind { m, n, k, .. } = kind;
        let result_type = if kind.single_precision { CUDA_R_32F } else { CUDA_R_16BF };
        // A matrix of ours, `[rows, columns]`, is theirs with the sides exchanged.
        let (b_rows, b_columns) = if kind.transposed.1 { (n, k) } else { (k, n) };
        let (a_rows, a_columns) = if kind.transposed.0 { (k, m) } else { (m, k) };
        let mut plan = Self {
            descriptor: result::create_matmul_desc(
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                CUDA_R_32F,
            )?,
            first: layout(CUDA_R_16BF, (b_rows, b_columns, kind.strides[1]), kind.batch)?,
            second: layout(CUDA_R_16BF, (a_rows, a_columns, kind.strides[0]), kind.batch)?,
            to: layout(result_type, (m, n, kind.strides[2]), kind.batch)?,
            // SAFETY: plain words, overwritten below.
            algorithm: unsafe { std::mem::zeroed() },
            in_use: Mutex::default(),
        };
        let operation = |transposed: bool| i32::from(transposed);
        let nothing = 256u64;
        // SAFETY: each value has its attribute's type: operations and epilogues are 32-bit
        // enumerations, addresses and leading dimensions 64 bits wide.
        unsafe {
            let transposed = kind.transposed;
            set(&plan, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(transposed.1))?;
            set(&plan, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(transposed.0))?;
            set(&plan, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &kind.epilogue)?;
            let epilogue = kind.epilogue;
            let has = |code: sys::cublasLtEpilogue_t| epilogue == code as u32;
            let with_gelu = has(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
            if has(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS) || with_gelu {
                // The choice depends on there being one; the address comes with each call.
                set(&plan, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &nothing)?;
            }
            if with_gelu || has(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DGELU) {
                set(&plan, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &nothing)?;
                set(&plan, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &(n as i64))?;
            }
        }
        plan.algorithm = choose(handle, &plan, kind)?;
        Ok(plan)
    }
}

fn layout(
    type_: sys::cudaDataType,
    (rows, columns, row_stride): (usize, usize, usize),
    batch: usize,
) -> std::result::Result<sys::cublasLtMatrixLayout_t, result::CublasError> {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let layout =
        result::create_matrix_layout(type_, columns as u64, rows as u64, row_stride as i64)?;
    if batch > 1 {
        let (count, stride) = (batch as i32, (rows * row_stride) as i64);
        // SAFETY: a batch's count is 32 bits wide, its stride 64.
        unsafe {
            result::set_matrix_layout_attribute(
                layout,
                Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                std::ptr::from_ref(&count).cast(),
                size_of::<i32>(),
            )?;
            result::set_matrix_layout_attribute(
                layout,
                Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                std::ptr::from_ref(&stride).cast(),
                size_of::<i64>(),
            )?;
        }
    }
    Ok(layout)
}

/// The algorithm that the library thinks fastest.
fn choose(
    handle: &Handle,
    plan: &Plan,
    kind: Kind,
) -> std::result::Result<sys::cublasLtMatmulAlgo_t, result::CublasError> {
    use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
    let preference = result::create_matmul_pref()?;
    let set = |attribute, value: *const c_void, size| {
        // SAFETY: the value is as wide as is said; the preference is destroyed below.
        unsafe { result::set_matmul_pref_attribute(preference, attribute, value, size) }
    };
    let workspace = WORKSPACE;
    let alignments = [
        Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    ];
    let mut chosen = set(
        Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        std::ptr::from_ref(&workspace).cast(),
        size_of::<usize>(),
    );
    for attribute in alignments {
        let value = std::ptr::from_ref(&kind.alignment).cast();
        chosen = chosen.and_then(|()| set(attribute, value, size_of::<u32>()));
    }
    if !kind.single_precision {
        // Long sums may be cut into shares, but those are not to be rounded to bf16.
        let scheme = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let attribute = Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
        let value = std::ptr::from_ref(&scheme).cast();
        chosen = chosen.and_then(|()| set(attribute, value, size_of::<u32>()));
    }
    let chosen = chosen.and_then(|()| {
        // SAFETY: handle, descriptions and preference are alive.
        unsafe {
            result::get_matmul_algo_heuristic(
                handle.0,
                plan.descriptor,
                plan.first,
                plan.second,
                plan.to,
                plan.to,
                preference,
            )
        }
    });
    // SAFETY: created above and destroyed once.
    unsafe { result::destroy_matmul_pref(preference)? };
    Ok(chosen?.algo)
}
