import ArgumentParser
import CostModel
import Files
import Glibc
import LinearAlgebra
import LowRank
import Report
import Tokenizers
import Training
import Transformer
import Workflows

/// What a tool's exit code says; README.md lists them for users.
public enum ToolExit {
    public static let usage: Int32 = 64
    public static let badInput: Int32 = 65
    public static let missingInput: Int32 = 66
    public static let bug: Int32 = 70
    /// The machine lacks something: memory, threads, instructions that were asked for.
    public static let machine: Int32 = 71
    public static let cannotWrite: Int32 = 73

    /// The code for an error of one of the libraries.
    public static func code(for error: any Error) -> Int32 {
        switch error {
        case CheckpointError.missing, CheckpointError.brokenLink, ReportError.missing: missingInput
        case CheckpointError.cannotWrite: cannotWrite
        case TrainingError.setting, LowRankError.setting, CostModelError.setting: usage
        case LowRankError.result: bug
        case is CheckpointError, is TransformerError, is TokenizerError, is TrainingError, is LowRankError,
            is ReportError, is WorkflowError, is InputError:
            badInput
        case is LinearAlgebraError: badInput
        case is MachineError: machine
        default: bug
        }
    }
}

/// Input that can be read but not used: empty, too short, of another model.
public struct InputError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// What this machine lacks.
struct MachineError: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

extension ParsableCommand {
    /// Parses the command line, runs the command and ends the process with the code that DESIGN gives each outcome.
    public static func runAsTool() -> Never {
        prepareProcess(tool: _commandName)
        do {
            var command = try parseAsRoot()
            do {
                try command.run()
            } catch let error where !isFromParser(error) {
                Console.fail(_commandName, error)
                Glibc.exit(ToolExit.code(for: error))
            }
            Glibc.exit(0)
        } catch {
            exit(withError: error)
        }
    }

    /// Help, a wrong option, an exit code: what the parser prints itself. For any other error its code is a plain failure.
    private static func isFromParser(_ error: any Error) -> Bool {
        error is ExitCode || exitCode(for: error) != .failure
    }
}
