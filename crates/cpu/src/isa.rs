//! Which kernels this processor can run.

/// A set of kernels, named by the instructions they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Nothing beyond the architecture's base.
    Scalar,
    /// AVX2, FMA and F16C (x86-64 since 2013).
    Avx2,
    /// The same with AVX-VNNI: the byte dot product of processors without AVX-512 (2021 on).
    Avx2Vnni,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// NEON without dot products (Cortex-A72).
    Neon,
    /// NEON with dot products (Cortex-A78AE, the Orin's core).
    NeonDot,
}

impl Isa {
    /// From plain to best.
    pub const ALL: [Isa; 6] = [Isa::Scalar, Isa::Avx2, Isa::Avx2Vnni, Isa::Avx512, Isa::Neon, Isa::NeonDot];

    /// Its name for people and for `--isa`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx2Vnni => "avx2-vnni",
            Isa::Avx512 => "avx512-vnni",
            Isa::Neon => "neon",
            Isa::NeonDot => "neon-dotprod",
        }
    }

    /// Whether this processor can run it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            match self {
                Isa::Scalar => true,
                Isa::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
                Isa::Avx2Vnni => Isa::Avx2.available() && has!("avxvnni"),
                Isa::Avx512 => {
                    has!("avx512f")
                        && has!("avx512bw")
                        && has!("avx512dq")
                        && has!("avx512vl")
                        && has!("avx512vnni")
                }
                Isa::Neon | Isa::NeonDot => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            match self {
                Isa::Scalar | Isa::Neon => true,
                Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
                Isa::Avx2 | Isa::Avx2Vnni | Isa::Avx512 => false,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Isa::Scalar
        }
    }

    /// The best set this processor can run.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Scalar)
    }
}
