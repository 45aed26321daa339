/// A number as a field of a CSV file: the shortest text that reads back as the same number. What is no finite number has no
/// text – programs disagree on how to write one – and leaves the field empty, as does nil.
public func csvField(_ value: Double?) -> String { value.map { $0.isFinite ? "\($0)" : "" } ?? "" }
