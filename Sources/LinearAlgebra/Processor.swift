import CKernels
import CLAPACK
import COneDNN

/// What the libraries can do on this processor. It is asked here, once; nothing else asks, and nothing assumes.
public enum Processor {
    /// Whether oneDNN has kernels for products of bfloat16 matrices, within what ONEDNN_MAX_CPU_ISA allows it: on x86 it
    /// needs AVX-512 for them. Without them such a product is made of single-precision ones, which is correct and slower.
    public static let multipliesBFloat16 = conednn_has_bf16_gemm()

    /// Whether OpenBLAS makes products in single precision, and not oneDNN: where oneDNN has its kernels for AVX2 only, they
    /// lose up to a third of their speed at matrices whose rows are 2,048 bytes apart or the like – those of models with
    /// 512 features –, which OpenBLAS' kernels for AVX2 do not.
    static let multipliesByOpenBLAS =
        conednn_is_limited_to_avx2() && ["haswell", "zen"].contains(OpenBLAS.kernel.lowercased())

    /// Sets of instructions that libraries and our own loops come in, each with the ones before it; other processors than
    /// x86 have the baseline only, which is then what every one of them has.
    public enum InstructionSet: String, CaseIterable, Sendable {
        case baseline, avx2, avx512

        /// Whether the processor has it, whatever the environment allows.
        public var isThere: Bool {
            switch self {
            case .baseline: true
            case .avx2: ck_has_instruction_set(ck_avx2)
            case .avx512: ck_has_instruction_set(ck_avx512)
            }
        }
    }
}

/// The BLAS in use.
public enum OpenBLAS {
    /// The kernels that OpenBLAS chose for this processor, or that OPENBLAS_CORETYPE asked for: "SkylakeX", "Zen", …
    public static var kernel: String { String(cString: openblas_get_corename()) }

    public static var configuration: String { String(cString: openblas_get_config()) }

    /// The name of OpenBLAS kernels that this processor runs well, if it is newer than what OpenBLAS' oldest are for.
    public static var kernelForThisProcessor: String? {
        switch String(cString: ck_instruction_set_name(ck_current_instruction_set())) {
        case "avx512": "SkylakeX"
        case "avx2": "Haswell"
        default: nil
        }
    }

    /// The instructions that the kernels in use need and this processor lacks: OPENBLAS_CORETYPE may ask for any kernels.
    public static var missingInstructions: String? {
        let needed: Processor.InstructionSet =
            switch kernel.lowercased() {
            case "skylakex", "cooperlake", "sapphirerapids": .avx512
            case "haswell", "zen": .avx2
            default: .baseline
            }
        return needed.isThere ? nil : needed.rawValue
    }

    private static let oneThread: Void = openblas_set_num_threads(1)

    static func useOneThread() { _ = oneThread }
}
