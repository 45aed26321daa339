import CHDF5

/// What an attribute holds, as far as this project's own files have such attributes.
enum HDF5Attribute: Equatable {
    case text(String)
    /// Signed, up to 64 bits.
    case integer(Int64)
    /// Unsigned, up to 64 bits.
    case unsigned(UInt64)
    /// Anything else, in words.
    case other(String)

    /// In words, for errors.
    var description: String {
        switch self {
        case .text: "text"
        case .integer(let value): "\(value)"
        case .unsigned(let value): "\(value)"
        case .other(let description): description
        }
    }

    /// The value of an integer of either kind, if it fits.
    var intValue: Int? {
        switch self {
        case .integer(let value): Int(exactly: value)
        case .unsigned(let value): Int(exactly: value)
        case .text, .other: nil
        }
    }
}

extension HDF5Handle {
    /// Creates an attribute. Callers hold the library's lock.
    func setAttribute(_ name: String, _ value: HDF5Attribute) throws {
        switch value {
        case .text(let text):
            // Of fixed length: such a text is under a checksum. The library keeps texts of variable length in a heap
            // that has none, and release 1.10 crashes over a damaged one.
            var bytes = Array(text.utf8)
            if bytes.isEmpty { bytes = [0] }
            let type = try HDF5Handle(H5Tcopy(chdf5_c_string()), closing: H5Tclose)
            try HDF5Library.check(H5Tset_size(type.id, bytes.count))
            try HDF5Library.check(H5Tset_strpad(type.id, H5T_STR_NULLPAD))
            try HDF5Library.check(H5Tset_cset(type.id, H5T_CSET_UTF8))
            try writeAttribute(name, stored: type, memory: type.id, bytes)
        case .integer(let number):
            let type = try HDF5Handle(H5Tcopy(chdf5_std_i64()), closing: H5Tclose)
            try writeAttribute(name, stored: type, memory: chdf5_native_int64(), [number])
        case .unsigned(let number):
            let type = try HDF5Handle(H5Tcopy(chdf5_native_uint64()), closing: H5Tclose)
            try HDF5Library.check(H5Tset_order(type.id, H5T_ORDER_LE))
            try writeAttribute(name, stored: type, memory: chdf5_native_uint64(), [number])
        case .other(let description): preconditionFailure("attribute \(name): \(description) cannot be written")
        }
    }

    private func writeAttribute(
        _ name: String, stored: HDF5Handle, memory: hid_t, _ value: [some BitwiseCopyable]
    ) throws {
        let space = try HDF5Handle(H5Screate(H5S_SCALAR), closing: H5Sclose)
        let attribute = try HDF5Handle(H5Acreate2(id, name, stored.id, space.id, 0, 0), closing: H5Aclose)
        try HDF5Library.check(H5Awrite(attribute.id, memory, value))
    }

    /// What the attribute of a name holds, or `nil` if there is none. Throws for a text that is not UTF-8.
    func attribute(_ name: String) throws -> HDF5Attribute? {
        guard try HDF5Library.check(H5Aexists(id, name)) > 0 else { return nil }
        let attribute = try HDF5Handle(H5Aopen(id, name, 0), closing: H5Aclose)
        let type = try HDF5Handle(H5Aget_type(attribute.id), closing: H5Tclose)
        let space = try HDF5Handle(H5Aget_space(attribute.id), closing: H5Sclose)
        let stored = try HDF5StoredType(typeID: type.id)
        let count = try space.extents().reduce(1, *)
        switch stored {
        case .text where count == 1: return try attributeText(name).map { .text($0) }
        case .integer(bits: ...64, signed: true) where count == 1:
            var value: Int64 = 0
            try HDF5Library.check(H5Aread(attribute.id, chdf5_native_int64(), &value))
            return .integer(value)
        case .integer(bits: ...64, signed: false) where count == 1:
            var value: UInt64 = 0
            try HDF5Library.check(H5Aread(attribute.id, chdf5_native_uint64(), &value))
            return .unsigned(value)
        default: return .other("\(count) of \(stored.description)")
        }
    }
}
