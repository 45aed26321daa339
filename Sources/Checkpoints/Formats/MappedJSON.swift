import Files
import JSON

extension MappedFile {
    /// The whole of a small file as JSON, whose outermost value is an object.
    static func json(_ path: String) throws(CheckpointError) -> JSONValue {
        try json(try contents(path), path: path, place: "")
    }

    /// JSON text that is part of a file; errors name the place.
    static func json(
        _ text: [UInt8], path: String, place: String, allowsNonFinite: Bool = false
    ) throws(CheckpointError) -> JSONValue {
        let prefix = place.isEmpty ? "" : "\(place): "
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(parsing: text, allowsNonFinite: allowsNonFinite)
        } catch {
            throw .unreadable(path: path, reason: "\(prefix)not JSON: \(error)")
        }
        guard value.objectValue != nil else {
            throw .unreadable(path: path, reason: "\(prefix)not a JSON object")
        }
        return value
    }
}
