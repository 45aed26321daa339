extension AdamW {
    /// What an optimiser is told. Symbols as in `AdamW`.
    public struct Settings: Equatable, Sendable {
        /// η: the peak of the schedule, and the rate of a step that is given none.
        public var learningRate: Double
        /// β₁, in 0..<1.
        public var beta1: Double
        /// β₂, in 0..<1.
        public var beta2: Double
        /// ε, at least 10⁻¹⁶: v is 0 below 1.2·10⁻³⁸, and beside its root ε has to be large.
        public var epsilon: Double
        /// λ of every parameter that no group gives another one.
        public var weightDecay: Double
        /// Exceptions by name; the last one that contains a parameter is the one that holds.
        public var groups: [ParameterGroup]

        public init(
            learningRate: Double, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8,
            weightDecay: Double = 0.01, groups: [ParameterGroup] = []
        ) {
            self.learningRate = learningRate
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
            self.weightDecay = weightDecay
            self.groups = groups
        }

        /// Throws `TrainingError.setting` for the first value that is none.
        public func validate() throws(TrainingError) {
            func check(_ isValid: Bool, _ name: String, _ value: Double, _ expected: String) throws(TrainingError) {
                guard isValid else { throw .setting(name: name, found: "\(value)", expected: expected) }
            }
            func checkDecay(_ decay: Double, _ name: String) throws(TrainingError) {
                try check(decay >= 0 && decay < .infinity, name, decay, "a number from 0")
            }
            try check(
                learningRate > 0 && learningRate < .infinity, "learning rate", learningRate, "a number above 0")
            for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
                // Rounded to single precision it is still below 1.
                try check(beta >= 0 && Float(beta) < 1, name, beta, "a number from 0, below 1")
            }
            try check(epsilon >= 1e-16 && epsilon <= 1, "epsilon", epsilon, "a number from 1e-16 to 1")
            try checkDecay(weightDecay, "weight decay")
            for group in groups {
                let factor = group.learningRateFactor
                try check(
                    factor >= 0 && factor < .infinity, "learning-rate factor of \(group.pattern)", factor,
                    "a number from 0")
                if let decay = group.weightDecay { try checkDecay(decay, "weight decay of \(group.pattern)") }
                if let unit = group.unit {
                    try check(unit > 0 && unit < .infinity, "unit of \(group.pattern)", unit, "a number above 0")
                }
            }
        }

        /// How a parameter is updated.
        struct Rule: Equatable {
            var learningRateFactor: Double
            var weightDecay: Double
            var unit: Double
        }

        /// How each of the named parameters is updated. Throws `TrainingError.setting` for a group that contains none.
        func rules(for names: [String]) throws(TrainingError) -> [Rule] {
            for group in groups where !names.contains(where: group.contains) {
                throw .setting(
                    name: "parameter group", found: "\"\(group.pattern)\"",
                    expected: "a pattern that matches a parameter, such as \"*norm.weight\"")
            }
            return names.map { name in
                let own = groups.filter { $0.contains(name) }
                return Rule(
                    learningRateFactor: own.last?.learningRateFactor ?? 1,
                    weightDecay: own.last?.weightDecay ?? weightDecay, unit: own.compactMap(\.unit).last ?? 1)
            }
        }
    }
}
