import Foundation
import JSON
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

extension Workplace {
    /// With what runs of tiny models need: config.json of the dense one, tokenizer.json, text.txt, and tokens.u16 with
    /// 75 windows of 16 tokens.
    static func forTraining() throws -> Workplace {
        let workplace = try Workplace()
        try workplace.write(TinyModel.dense.configurationText, "config.json")
        try workplace.write(TinyModel.tokenizerJSON, "tokenizer.json")
        try workplace.write(TinyModel.text(1500), "text.txt")
        try workplace.write(learnableIDs(1201, below: 97).flatMap { littleEndian(UInt16($0)) }, "tokens.u16")
        return workplace
    }

    /// A command line of cola-train: `command` with options that suit tiny models, of which some are changed, added or,
    /// with nil, left out. A value may be several words.
    func line(_ command: String, _ changes: KeyValuePairs<String, String?> = [:]) -> [String] {
        var options: [(name: String, value: String)] = [
            ("tokens", "tokens.u16"), ("out", "run"), ("steps", "8"), ("sequence-length", "16"), ("batch", "4"),
            ("accumulate", "1"), ("learning-rate", "0.01"), ("evaluation-fraction", "0.1"), ("precision", "f32"),
            ("seed", "3"),
        ]
        if command == "pretrain" { options += [("config", "config.json"), ("model", "dense")] }
        for (name, value) in changes {
            options.removeAll { $0.name == name }
            if let value { options.append((name, value)) }
        }
        return words(command) + options.flatMap { ["--\($0.name)"] + words($0.value) }
    }

    private func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

    /// Runs a command of `line` that must succeed; what it printed.
    @discardableResult
    func train(
        _ command: String, _ changes: KeyValuePairs<String, String?> = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> JSONValue {
        let arguments = line(command, changes) + ["--json", "--quiet"]
        let outcome = try run(.train, arguments, sourceLocation: sourceLocation)
        try #require(
            outcome.status == 0 && !outcome.isKilled, "\(arguments): \(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors == "", sourceLocation: sourceLocation)
        return try JSONValue(parsing: outcome.output)
    }

    /// Goes on with a run to its end.
    func resume(_ place: String = "run", sourceLocation: SourceLocation = #_sourceLocation) throws {
        try succeed(.train, "resume", place, "--quiet", sourceLocation: sourceLocation)
    }

    func run(at step: Int, of folder: String = "run") throws -> RunContents {
        try RunContents(file(Self.checkpoint(step, of: folder)))
    }

    static func checkpoint(_ step: Int, of folder: String = "run") -> String {
        let digits = "\(step)"
        return "\(folder)/step-\(String(repeating: "0", count: 8 - digits.count))\(digits).h5"
    }

    /// Names of the files in a folder.
    func contents(of folder: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: file(folder))) ?? []).sorted()
    }

    /// The gradients in a file, by their parameters.
    func gradients(in name: String) throws -> [String: [Float]] {
        let source = try HDF5Checkpoint(path: file(name))
        var gradients: [String: [Float]] = [:]
        for info in source.tensors { gradients[info.name] = try source.read(info.name).elements }
        return gradients
    }

    func metrics(of folder: String = "run") throws -> Metrics { try Metrics(try text("\(folder)/metrics.csv")) }
}

/// Ids of which each, with the one before, leaves three for the next.
func learnableIDs(_ count: Int, below limit: Int, seed: UInt64 = 5) -> [Int] {
    var generator = SeededGenerator(seed: seed)
    var id = 1
    return (0..<count).map { _ in
        id = (5 * id + Int.random(in: 0..<3, using: &generator)) % limit
        return id
    }
}

/// metrics.csv of a run, or another table of fields without quotes.
struct Metrics {
    let header: [Substring]
    let rows: [[Substring]]

    init(_ text: String) throws {
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        try #require(lines.count > 1 && lines.last == "", "the last line has no end")
        header = lines[0].split(separator: ",")
        rows = lines.dropFirst().dropLast().map { $0.split(separator: ",", omittingEmptySubsequences: false) }
        let width = header.count
        try #require(rows.allSatisfy { $0.count == width })
    }

    func column(_ name: String) throws -> [Substring] {
        let index = try #require(header.firstIndex { $0 == name }, "no column \(name)")
        return rows.map { $0[index] }
    }

    func numbers(_ name: String) throws -> [Double] { try column(name).map { try #require(Double($0)) } }
}

/// All that a checkpoint of a run holds but its provenance, by bits.
struct RunContents: Equatable {
    static let counters = ["step", "tokens", "cursor", "skipped_steps", "optimizer_steps"]

    /// Weights by their names, moments by their places.
    var tensors: [String: [UInt32]] = [:]
    let configuration: String?
    let tokenizer: TokenizerBlob?
    let counters: [String: Int]
    let seed: UInt64
    let settings: String
    /// The history without how long the steps took.
    let history: [[UInt64]]

    init(_ path: String) throws {
        let source = try HDF5Checkpoint(path: path)
        for info in source.tensors {
            tensors[info.name] = try source.read(info.name).elements.map(\.bitPattern)
            for part in OptimizerStatePart.allCases {
                let matrix = Matrix(shape: info.shape)
                try source.readOptimizerState(part, info.name, into: matrix.buffer)
                tensors["\(part.rawValue) of \(info.name)"] = matrix.elements.map(\.bitPattern)
            }
        }
        configuration = source.configuration
        tokenizer = try source.tokenizer()
        let training = try source.training(counters: Self.counters)
        (counters, seed, settings) = (training.counters, training.seed, training.settings)
        let width = training.columns.count
        try #require(training.columns.last == "tokens_per_second")
        history = stride(from: 0, to: training.history.count, by: width).map { start in
            training.history[start..<start + width - 1].map(\.bitPattern)
        }
    }

    /// The names of tensors that are not the same in both.
    func differences(from other: RunContents) -> [String] {
        Set(tensors.keys).union(other.tensors.keys).filter { tensors[$0] != other.tensors[$0] }.sorted()
    }
}

/// Expects that two runs came to the same, naming what did not.
func expectSame(
    _ found: RunContents, _ expected: RunContents, sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(found.differences(from: expected) == [], sourceLocation: sourceLocation)
    #expect(found.counters == expected.counters, sourceLocation: sourceLocation)
    expectIdentical(found.history, expected.history, sourceLocation: sourceLocation)
    let isSame = found == expected
    #expect(isSame, "settings, seed, configuration or tokenizer", sourceLocation: sourceLocation)
}

/// Writes a run's checkpoint anew with other contents of its group `/training`, or another provenance.
func rewrite(_ path: String, provenance: String? = nil, _ change: (inout TrainingGroup) throws -> Void) throws {
    let source = try HDF5Checkpoint(path: path)
    var training = try source.training(counters: RunContents.counters)
    try change(&training)
    let writer = try CheckpointWriter(
        path: path, configuration: source.configuration ?? "", provenance: provenance ?? source.provenance ?? "",
        tokenizer: try source.tokenizer())
    for info in source.tensors {
        try writer.write(info.name, try source.read(info.name))
        for part in OptimizerStatePart.allCases {
            let matrix = Matrix(shape: info.shape)
            try source.readOptimizerState(part, info.name, into: matrix.buffer)
            try writer.writeOptimizerState(part, info.name, matrix)
        }
    }
    try writer.writeTraining(training)
    try writer.finish()
}
