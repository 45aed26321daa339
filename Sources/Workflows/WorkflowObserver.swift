import Transformer

/// What a workflow tells while it runs: how far it is, and what people should know. A tool shows it on its console, a
/// program may show it elsewhere.
public protocol WorkflowObserver {
    associatedtype Phase: WorkflowPhase

    /// Called when a phase of some length begins.
    ///
    /// - Parameters:
    ///   - title: names it.
    ///   - unit: what is counted, in the plural: tokens, layers, steps.
    ///   - total: how many of them there are.
    func begin(_ title: String, unit: String, total: Int) -> Phase

    /// Called for what does not stop the work.
    func note(_ notice: WorkflowNotice)
}

/// A phase that runs.
public protocol WorkflowPhase {
    /// Called when `done` of the total are done.
    func update(_ done: Int)

    /// Called when it is over.
    func end()
}

extension WorkflowObserver {
    /// Runs work as one phase. It is given what it has to tell how much is done.
    func phase<Result>(
        _ title: String, unit: String, total: Int, _ work: ((Int) -> Void) throws -> Result
    ) rethrows -> Result {
        let phase = begin(title, unit: unit, total: total)
        let result = try work(phase.update)
        phase.end()
        return result
    }
}

/// What a workflow has to say besides how far it is.
public enum WorkflowNotice: Equatable, Sendable {
    /// A warning: so few calibration tokens for the features of the widest input that directions of the sample do not
    /// hold elsewhere.
    case fewTokens(Int, features: Int)
    /// The precision that refining computes with.
    case refining(Precision)
}

/// An observer that shows nothing.
public struct SilentObserver: WorkflowObserver {
    /// A phase that nobody sees.
    public struct Phase: WorkflowPhase {
        public func update(_ done: Int) {}
        public func end() {}
    }

    public init() {}

    public func begin(_ title: String, unit: String, total: Int) -> Phase { Phase() }
    public func note(_ notice: WorkflowNotice) {}
}
