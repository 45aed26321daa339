import CHDF5
import CSignals
import Files
import Glibc

/// A call of the HDF5 library that failed, in the library's own innermost words.
struct HDF5Failure: Error {
    let reason: String
}

extension HDF5Failure {
    /// Runs `body` inside the library and turns its failure into the error that the file's user sees. `path` names the
    /// file if it is read and may be damaged: the library crashes over some damage, which then is reported as such.
    static func translated<Result>(
        reading path: String? = nil, _ error: (_ reason: String) -> CheckpointError, _ body: () throws -> Result
    ) throws(CheckpointError) -> Result {
        do {
            return try HDF5Library.locked {
                guard let path else { return try body() }
                return try path.withCString { text in
                    let outer = csignals_begin_reading(text)
                    defer { csignals_end_reading(outer) }
                    return try body()
                }
            }
        } catch let failure as HDF5Failure {
            throw error(failure.reason)
        } catch let known as CheckpointError {
            throw known
        } catch let other {
            throw error("\(other)")
        }
    }
}

/// The HDF5 library as this process uses it: one call at a time, silent, and without work at exit.
enum HDF5Library {
    /// Runs `body` while no other thread is inside the library, which is not made for several. Calls nest.
    static func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        mutex.lock()
        defer { mutex.unlock() }
        _ = isOpen
        // Builds for several threads keep this setting per thread.
        H5Eset_auto2(0, nil, nil)
        return try body()
    }

    /// Passes an identifier or status on, or throws what the library says about the failed call.
    @discardableResult
    static func check<Code: SignedInteger>(_ code: Code) throws(HDF5Failure) -> Code {
        guard code < 0 else { return code }
        throw HDF5Failure(reason: takeReason())
    }

    private static let mutex = RecursiveMutex()

    // At exit the library would try again to flush a file whose disk is full, and crash or hang over it.
    private static let isOpen: Bool = {
        // The library ends the process where it is another release than the headers that the program was built with, even
        // one of the same interface, which is all that matters and which the loader has seen to.
        setenv("HDF5_DISABLE_VERSION_CHECK", "2", 0)
        H5dont_atexit()
        // The library allocates a buffer for each chunk and frees it. The C library then returns the memory to the
        // system and fetches it again, which costs more than the checksum – until it has seen a block of this size freed.
        UnsafeMutableRawPointer.allocate(byteCount: 30 << 20, alignment: 16).deallocate()
        return H5open() >= 0
    }()

    private final class Descriptions {
        var texts: [String] = []
    }

    /// The innermost entry of the error stack, which says what happened rather than who passed it on.
    private static func takeReason() -> String {
        let descriptions = Descriptions()
        H5Ewalk2(
            0, H5E_WALK_UPWARD,
            { _, entry, context in
                let descriptions = Unmanaged<Descriptions>.fromOpaque(context!).takeUnretainedValue()
                if let text = entry?.pointee.desc { descriptions.texts.append(String(cString: text)) }
                return 0
            }, Unmanaged.passUnretained(descriptions).toOpaque())
        H5Eclear2(0)
        guard let innermost = descriptions.texts.first(where: { !$0.isEmpty }) else { return "unknown HDF5 failure" }
        return systemMessage(in: innermost) ?? innermost
    }

    /// The operating system's words out of a driver's long account of a failed read or write.
    private static func systemMessage(in text: String) -> String? {
        let marker = Array("error message = '".utf8)
        let bytes = Array(text.utf8)
        guard bytes.count > marker.count else { return nil }
        for start in 0..<(bytes.count - marker.count) where bytes[start..<(start + marker.count)].elementsEqual(marker)
        {
            let message = bytes[(start + marker.count)...].prefix { $0 != UInt8(ascii: "'") }
            return String(decoding: message, as: UTF8.self)
        }
        return nil
    }
}

/// An identifier of the library, closed when nobody holds it any more.
final class HDF5Handle {
    let id: hid_t
    private let closing: (hid_t) -> herr_t
    private var isOpen = true

    /// Takes over an identifier that a call returned; throws if that call failed.
    init(_ id: hid_t, closing: @escaping (hid_t) -> herr_t) throws(HDF5Failure) {
        self.id = try HDF5Library.check(id)
        self.closing = closing
    }

    deinit { close(ignoringFailure: ()) }

    /// Closes now; throws if bytes that were still to be written could not be.
    func close() throws(HDF5Failure) {
        guard isOpen else { return }
        try HDF5Library.locked { () throws(HDF5Failure) in _ = try HDF5Library.check(closing(id)) }
        isOpen = false
    }

    /// Leaves the identifier open for the rest of the process.
    func leak() { isOpen = false }

    func close(ignoringFailure: Void) {
        do throws(HDF5Failure) { try close() } catch {}
    }
}

private final class RecursiveMutex: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() {
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_RECURSIVE))
        pthread_mutex_init(mutex, &attributes)
        pthread_mutexattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func lock() { pthread_mutex_lock(mutex) }
    func unlock() { pthread_mutex_unlock(mutex) }
}
