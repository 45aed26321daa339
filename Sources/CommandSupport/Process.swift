import CKernels
import CSignals
import Glibc
import LinearAlgebra
import Tensors

/// Signals and output of the process, and how it ends without memory, before a command line is parsed.
func prepareProcess(tool: String) {
    csignals_install(tool)
    MemoryExhaustion.end { bytes in
        csignals_remove_files()
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        let free =
            limit.rlim_cur < .max
            ? "; the process is limited to \(byteCount(Int(clamping: limit.rlim_cur)))"
            : availableMemory().map { "; \(byteCount($0)) are free" } ?? ""
        end(tool, MachineError("no memory for \(byteCount(bytes)) more\(free)"))
    }
}

/// Ends the process with the message. Other threads may be at work: what a process does at its exit must not meet them.
private func end(_ tool: String, _ error: any Error) -> Never {
    Console.fail(tool, error)
    _exit(ToolExit.code(for: error))
}

/// Chooses what libraries read from the environment while they load, where the user has left it to them; if anything is
/// chosen, the process starts over with it. To be called before any work.
///
/// - OpenBLAS releases that are older than the processor take it for one of 2004 and are then five to ten times slower.
/// - OpenMP takes a thread for each processor that it may run on, even where a control group lets the process have the time
///   of a few of them only; they would then wait for each other most of the time.
/// - OpenMP's threads wait for each other by spinning, for ten milliseconds and more. Beside other programs that keeps the
///   very thread from running that is waited for: training a small model was three times slower. A tenth of a millisecond
///   is enough for threads that do run.
///
/// Ends the process where what the user asks the libraries for cannot be had on this machine.
public func prepareNumerics(_ console: Console) {
    if let value = ck_unknown_instruction_set() {
        end(
            Provenance.commandName,
            MachineError("COLA_MAX_CPU_ISA is '\(String(cString: value))': expected baseline, avx2 or avx512"))
    }
    if let missing = OpenBLAS.missingInstructions {
        end(
            Provenance.commandName,
            MachineError(
                "OPENBLAS_CORETYPE asks for OpenBLAS' kernels \(OpenBLAS.kernel), whose \(missing) instructions this "
                    + "processor does not have; unset the variable"))
    }
    var isChanged = false
    if getenv("OPENBLAS_CORETYPE") == nil, OpenBLAS.kernel == "Prescott", let better = OpenBLAS.kernelForThisProcessor {
        setenv("OPENBLAS_CORETYPE", better, 1)
        isChanged = true
    }
    if getenv("OMP_NUM_THREADS") == nil, let processors = ControlGroup().processors,
        processors.rounded(.up) < Double(ThreadPool.threads)
    {
        setenv("OMP_NUM_THREADS", "\(max(1, Int(processors.rounded(.up))))", 1)
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
    let threads = Threads.startable(upTo: ThreadPool.threads)
    if threads < ThreadPool.threads {
        console.warn("the system lets this process have \(threads) threads, not \(ThreadPool.threads)")
        ThreadPool.useThreads(threads)
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
