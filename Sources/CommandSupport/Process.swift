import CKernels
import CSignals
import Glibc
import LinearAlgebra

/// Signals and output of the process, before a command line is parsed.
func prepareProcess(tool: String) {
    csignals_install(tool)
    if let value = ck_unknown_instruction_set() {
        Console.fail(
            tool, InputError("COLA_MAX_CPU_ISA is '\(String(cString: value))': expected baseline, avx2 or avx512"))
        exit(ToolExit.usage)
    }
}

/// Chooses what libraries read from the environment while they load, where the user has left it to them; if anything is
/// chosen, the process starts over with it. To be called before any work.
///
/// - OpenBLAS releases that are older than the processor take it for one of 2004 and are then five to ten times slower.
/// - OpenMP's threads wait for each other by spinning, for ten milliseconds and more. Beside other programs that keeps the
///   very thread from running that is waited for: training a small model was three times slower. A tenth of a millisecond
///   is enough for threads that do run.
public func prepareNumerics(_ console: Console) {
    var isChanged = false
    if getenv("OPENBLAS_CORETYPE") == nil, OpenBLAS.kernel == "Prescott", let better = OpenBLAS.kernelForThisProcessor {
        setenv("OPENBLAS_CORETYPE", better, 1)
        isChanged = true
    }
    if getenv("GOMP_SPINCOUNT") == nil, getenv("OMP_WAIT_POLICY") == nil {
        setenv("GOMP_SPINCOUNT", "2000", 1)
        isChanged = true
    }
    if isChanged {
        // By its own name, so that ps and pkill show and find it under that; by the link where the file has been moved.
        if let path = realpath("/proc/self/exe", nil) { execv(path, CommandLine.unsafeArgv) }
        execv("/proc/self/exe", CommandLine.unsafeArgv)
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
