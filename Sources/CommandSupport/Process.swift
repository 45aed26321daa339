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

/// Signals that ask a long run to end, while it can still save what it has.
public enum Interrupts {
    /// From now on the first such signal is only noted; the second ends the process.
    public static func deferUntilAsked() { csignals_defer_interrupts() }

    /// Whether one has come.
    public static var isRequested: Bool { csignals_interrupt_requested() != 0 }
}
