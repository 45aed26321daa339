import CHDF5

/// Where a path in a file leads.
enum HDF5Target {
    /// A dataset, a group or a named type of this file.
    case object(HDF5Handle)
    /// There is no such name.
    case nothing
    /// A link into another file, or one that leads nowhere, in words.
    case elsewhere(String)
}

extension HDF5Group {
    /// As many soft links in a row as the library follows.
    private static var mostLinks: Int { 16 }

    /// What a path leads to; the empty path is the group itself.
    ///
    /// Soft links within the file are followed. Links into other files are not: nobody who names this file has named
    /// those, and no hash that is recorded for it says anything of them.
    func target(of path: [String]) throws -> HDF5Target { try target(of: path, linksLeft: Self.mostLinks) }

    private func target(of path: [String], linksLeft: Int) throws -> HDF5Target {
        var place = handle
        for name in path where name != "." {
            guard H5Iget_type(place.id) == H5I_GROUP || H5Iget_type(place.id) == H5I_FILE else { return .nothing }
            guard try HDF5Library.check(H5Lexists(place.id, name, 0)) > 0 else { return .nothing }
            let group = HDF5Group(handle: place)
            switch try group.link(name) {
            case .hard: place = try HDF5Handle(H5Oopen(place.id, name, 0), closing: H5Oclose)
            case .soft(let destination):
                guard linksLeft > 0 else { return .elsewhere("a soft link that leads in a circle") }
                let start = destination.hasPrefix("/") ? try group.root() : group
                let steps = destination.split(separator: "/").map(String.init)
                switch try start.target(of: steps, linksLeft: linksLeft - 1) {
                case .object(let object): place = object
                case .nothing: return .elsewhere("a soft link to \(destination), where nothing is")
                case .elsewhere(let reason):
                    // A circle is said once, not at each of its links.
                    return .elsewhere(linksLeft < Self.mostLinks ? reason : "a soft link to \(destination): \(reason)")
                }
            case .external(let file, let object):
                return .elsewhere("an external link to \(object) in \(file); \(HDF5Storage.notRead)")
            case .other: return .elsewhere("a link of a kind that only the program knows that made it")
            }
        }
        return .object(place)
    }

    private func root() throws -> HDF5Group {
        HDF5Group(handle: try HDF5Handle(H5Oopen(id, "/", 0), closing: H5Oclose))
    }

    private enum Link {
        case hard
        case soft(String)
        case external(file: String, object: String)
        case other
    }

    /// The link of a name that is there.
    private func link(_ name: String) throws -> Link {
        var size = 0
        let type = try HDF5Library.check(chdf5_link_type(id, name, &size))
        guard type != H5L_TYPE_HARD.rawValue else { return .hard }
        var value = [CChar](repeating: 0, count: size + 1)
        try HDF5Library.check(H5Lget_val(id, name, &value, size, 0))
        if type == H5L_TYPE_SOFT.rawValue { return .soft(String(characters: value)) }
        guard type == H5L_TYPE_EXTERNAL.rawValue else { return .other }
        var flags: UInt32 = 0
        return try value.withUnsafeBufferPointer { value in
            var file: UnsafePointer<CChar>?
            var object: UnsafePointer<CChar>?
            try HDF5Library.check(H5Lunpack_elink_val(value.baseAddress, size, &flags, &file, &object))
            guard let file, let object else { return .other }
            return .external(file: String(cString: file), object: String(cString: object))
        }
    }
}
