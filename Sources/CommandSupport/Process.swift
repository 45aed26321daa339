import CKernels
import CSignals
import Glibc
import LinearAlgebra

/// Signals and output of the process, before a command line is parsed.
func prepareProcess(tool: String) {
    csignals_install(tool)
}

/// OpenBLAS releases that are older than the processor take it for one of 2004 and are then five to ten times slower.
/// The choice falls while the library loads, so where the user has left it to the library and it chose that badly, the
/// process starts over with a better one. To be called before any work.
public func prepareNumerics(_ console: Console) {
    if getenv("OPENBLAS_CORETYPE") == nil, OpenBLAS.kernel == "Prescott", let better = OpenBLAS.kernelForThisProcessor {
        setenv("OPENBLAS_CORETYPE", better, 1)
        let arguments = CommandLine.unsafeArgv
        execv("/proc/self/exe", arguments)
    }
    console.note(
        "kernels: \(Provenance.kernels().members.map { "\($0.key) \($0.value.plainText)" }.joined(separator: ", "))")
}
