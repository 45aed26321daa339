import CCrypto
import Files
import JSON

/// A file that a page was made from.
struct SourceFile {
    let path: String
    let bytes: Int
    let digest: [UInt8]

    init(_ file: MappedFile) {
        path = file.path
        bytes = file.bytes.count
        digest = sha256(file.bytes)
    }

    var json: JSONValue {
        let digits = Array("0123456789abcdef".utf8)
        let text = String(decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
        return ["path": .string(path), "bytes": .integer(bytes), "sha256": .string(text)]
    }
}

/// The 32 bytes of SHA-256.
func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    EVP_Digest(bytes.baseAddress, bytes.count, &digest, nil, EVP_sha256(), nil)
    return digest
}
