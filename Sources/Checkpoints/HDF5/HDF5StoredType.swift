import CHDF5
import CKernels
import Tensors

/// The element type of a dataset in this project's terms.
enum HDF5StoredType: Equatable {
    case float(ElementType)
    case integer(bits: Int, signed: Bool)
    case text
    case bytes
    case other(String)
    /// Of a link that is not followed, in words: nobody knows what is behind it.
    case elsewhere(String)

    var isFloat: Bool {
        if case .float = self { true } else { false }
    }

    /// As `TensorInfo.storedType` says it.
    var name: String {
        switch self {
        case .float(let type): type.rawValue
        case .integer(let bits, let signed): "\(signed ? "i" : "u")\(bits)"
        case .text: "text"
        case .bytes: "opaque bytes"
        case .other(let description): description
        case .elsewhere: "link"
        }
    }

    /// In words, for errors.
    var description: String {
        switch self {
        case .integer(let bits, let signed): "\(signed ? "signed" : "unsigned") \(bits)-bit integers"
        default: name
        }
    }

    static let expectedForTensors = ElementType.allCases.map(\.rawValue).joined(separator: ", ")

    init(typeID id: hid_t) throws {
        let bits = Int(H5Tget_size(id)) * 8
        switch H5Tget_class(id) {
        case H5T_FLOAT:
            self = .other("\(bits)-bit floating point of an unknown layout")
            if let type = try Self.floatType(id, bits: bits) { self = .float(type) }
        case H5T_INTEGER: self = .integer(bits: bits, signed: H5Tget_sign(id) != H5T_SGN_NONE)
        case H5T_STRING: self = .text
        case H5T_OPAQUE: self = .bytes
        case H5T_COMPOUND: self = .other("compound elements")
        case H5T_ENUM: self = .other("enumerated elements")
        case H5T_ARRAY: self = .other("array elements")
        case H5T_REFERENCE: self = .other("references")
        default: self = .other("elements of an unknown class")
        }
    }

    /// The IEEE types and bfloat16 by where their bits are; anything else has no name here.
    private static func floatType(_ id: hid_t, bits: Int) throws -> ElementType? {
        var (sign, exponent, exponentBits, fraction, fractionBits) = (0, 0, 0, 0, 0)
        try HDF5Library.check(H5Tget_fields(id, &sign, &exponent, &exponentBits, &fraction, &fractionBits))
        let order = H5Tget_order(id)
        guard order == H5T_ORDER_LE || order == H5T_ORDER_BE, H5Tget_norm(id) == H5T_NORM_IMPLIED,
            H5Tget_precision(id) == bits, H5Tget_offset(id) == 0,
            fraction == 0, exponent == fractionBits, sign == bits - 1, exponent + exponentBits == sign,
            H5Tget_ebias(id) == 1 << (exponentBits - 1) - 1
        else { return nil }
        return switch (exponentBits, fractionBits) {
        case (11, 52): .f64
        case (8, 23): .f32
        case (5, 10): .f16
        case (8, 7): .bf16
        default: nil
        }
    }
}

extension ElementType {
    /// The little-endian HDF5 type: how this project writes it, and how it asks for it to be read.
    func makeHDF5Type() throws -> HDF5Handle {
        let id =
            switch self {
            case .f64: H5Tcopy(chdf5_ieee_f64())
            case .f32: H5Tcopy(chdf5_ieee_f32())
            case .f16: chdf5_float16(5, 10, 15)
            case .bf16: chdf5_float16(8, 7, 127)
            }
        return try HDF5Handle(id, closing: H5Tclose)
    }

    /// Widens stored elements to single precision, or narrows `f64` to it.
    func decode(_ stored: UnsafeRawPointer, into destination: UnsafeMutablePointer<Float>, count: Int) {
        switch self {
        case .f64: ck_f64_to_f32(stored.assumingMemoryBound(to: Double.self), destination, count)
        case .f32: destination.update(from: stored.assumingMemoryBound(to: Float.self), count: count)
        case .f16: ck_f16_to_f32(stored.assumingMemoryBound(to: UInt16.self), destination, count)
        case .bf16: ck_bf16_to_f32(stored.assumingMemoryBound(to: UInt16.self), destination, count)
        }
    }

    /// Rounds single precision to what is stored.
    func encode(_ values: UnsafePointer<Float>, into stored: UnsafeMutableRawPointer, count: Int) {
        switch self {
        case .f64: ck_f32_to_f64(values, stored.assumingMemoryBound(to: Double.self), count)
        case .f32: stored.copyMemory(from: values, byteCount: count * 4)
        case .f16: ck_f32_to_f16(values, stored.assumingMemoryBound(to: UInt16.self), count)
        case .bf16: ck_f32_to_bf16(values, stored.assumingMemoryBound(to: UInt16.self), count)
        }
    }
}
