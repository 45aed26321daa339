import JSON

/// How long the phases of a run took, one after the other.
public struct PhaseTimer {
    private var phases: [(name: String, seconds: Double)] = []
    private var start = monotonicSeconds()

    public init() {}

    /// Ends the phase that began with the end of the one before.
    public mutating func end(_ name: String) {
        let now = monotonicSeconds()
        phases.append((name, now - start))
        start = now
    }

    /// Seconds by phase.
    public var json: JSONValue { .object(JSONObject(phases.map { ($0.name, .number($0.seconds)) })) }

    public var total: Double { phases.reduce(0) { $0 + $1.seconds } }
}
