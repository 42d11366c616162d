//! Which of the processor's instruction sets the kernels use. Chosen once, when the program first needs it.

use super::real::{Real, Simd, WithSimd};
use pulp::Arch;
use std::sync::OnceLock;

/// Environment variable that holds the kernels back to a lesser instruction set: for comparing them.
pub const VARIABLE: &str = "MEVAE_SIMD";

/// A set of vector instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// 16 numbers at once (AVX-512 F, BW, CD, DQ and VL).
    Avx512,
    /// 8 numbers at once (AVX2 and FMA).
    Avx2,
    /// What every processor of the architecture has.
    Portable,
}

impl Instructions {
    /// From the widest to the narrowest.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The name that [`VARIABLE`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// What the kernels use on this machine: the widest set it has, or a lesser one that [`VARIABLE`] names. An error where the
    /// variable names none, or one that the processor does not have.
    pub fn in_use() -> Result<Self, String> {
        let Ok(name) = std::env::var(VARIABLE) else { return Ok(Self::of(Arch::new())) };
        let named = Self::ALL.into_iter().find(|set| set.name() == name);
        match named.map(|set| (set, set.arch())) {
            Some((set, Some(_))) => Ok(set),
            Some((set, None)) => {
                Err(format!("{VARIABLE}={} asks for instructions that this processor lacks", set.name()))
            }
            None => {
                let names = Self::ALL.map(Self::name).join(", ");
                Err(format!("{VARIABLE}={name:?} is no instruction set; the sets are {names}"))
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn of(arch: Arch) -> Self {
        match arch {
            Arch::V4(_) => Self::Avx512,
            Arch::V3(_) => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of(_: Arch) -> Self {
        Self::Portable
    }

    #[cfg(target_arch = "x86_64")]
    fn arch(self) -> Option<Arch> {
        match self {
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            Self::Portable => Some(Arch::Scalar),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn arch(self) -> Option<Arch> {
        (self == Self::Portable).then(Arch::new)
    }
}

/// Runs a kernel on the instruction set in use.
#[inline(always)]
pub(super) fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    // A wrong variable is reported by whoever asks for `in_use`; a kernel has nobody to tell.
    ARCH.get_or_init(|| Instructions::in_use().ok().and_then(Instructions::arch).unwrap_or_default()).dispatch(kernel)
}

/// Vector registers of the instruction set in use.
pub(super) fn registers() -> usize {
    struct Registers;
    impl WithSimd for Registers {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::REGISTER_COUNT
        }
    }
    dispatch(Registers)
}

/// Numbers in a vector of the instruction set in use.
pub(super) fn lanes<T: Real>() -> usize {
    struct Lanes<T>(std::marker::PhantomData<T>);
    impl<T: Real> WithSimd for Lanes<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            T::width::<S>()
        }
    }
    dispatch(Lanes::<T>(std::marker::PhantomData))
}
