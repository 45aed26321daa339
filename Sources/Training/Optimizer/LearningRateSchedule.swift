import Glibc

/// The learning rate of every step: a linear rise to a peak, then a fall.
///
/// Steps count from 1. Of W warm-up steps, step s has the rate peak · s / W: the first one is not wasted on a rate of 0,
/// step W has the peak. The fall ends with step T, the last, at floor · peak.
public struct LearningRateSchedule: Equatable, Sendable {
    /// How the rate goes from the peak to the floor.
    public enum Shape: String, Codable, CaseIterable, Sendable {
        /// Half a cosine.
        case cosine
        /// A straight line.
        case linear
        /// Not at all: the rate stays at the peak.
        case constant
    }

    public internal(set) var peak: Double
    /// W, 0 for none.
    public internal(set) var warmupSteps: Int
    /// T, warm-up included.
    public internal(set) var totalSteps: Int
    public internal(set) var shape: Shape
    /// The last rate as a part of the peak; a constant schedule does not use it.
    public internal(set) var floor: Double

    /// Throws `TrainingError.setting`.
    public init(
        peak: Double, warmupSteps: Int = 0, totalSteps: Int, shape: Shape = .cosine, floor: Double = 0.1
    ) throws(TrainingError) {
        self.peak = peak
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
        self.shape = shape
        self.floor = floor
        try validate()
    }

    /// One that is to be filled in.
    static let blank = LearningRateSchedule()

    private init() { (peak, warmupSteps, totalSteps, shape, floor) = (1, 0, 1, .cosine, 0.1) }

    /// Throws `TrainingError.setting` for the first value that is invalid.
    func validate() throws(TrainingError) {
        guard peak > 0, peak < .infinity else {
            throw .setting(name: "learning rate", found: "\(peak)", expected: "a number above 0")
        }
        guard (1...1 << 30).contains(totalSteps) else {
            throw .setting(name: "steps", found: "\(totalSteps)", expected: "1 to \(1 << 30)")
        }
        guard warmupSteps >= 0, warmupSteps <= totalSteps else {
            throw .setting(
                name: "warm-up steps", found: "\(warmupSteps)", expected: "from 0 to the run's \(totalSteps) steps")
        }
        guard floor >= 0, floor <= 1 else {
            throw .setting(name: "learning-rate floor", found: "\(floor)", expected: "a number from 0 to 1")
        }
    }

    /// The rate of a step, from 1; after the last step it stays what it was.
    public func rate(step: Int) -> Double {
        precondition(step >= 1, "step \(step): steps count from 1")
        if step <= warmupSteps { return peak * (Double(step) / Double(warmupSteps)) }
        // Just above 0 in the step after the peak, 1 in the last.
        let progress = step >= totalSteps ? 1 : Double(step - warmupSteps) / Double(totalSteps - warmupSteps)
        switch shape {
        case .cosine: return peak * (floor + (1 - floor) * (1 + cos(.pi * progress)) / 2)
        case .linear: return peak * (floor + (1 - floor) * (1 - progress))
        case .constant: return peak
        }
    }
}
