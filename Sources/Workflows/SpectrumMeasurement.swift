import Spectra
import Transformer

extension SpectrumAnalysis {
    /// Runs the sequences through the model, `batch` at a time, while the analysis watches; returns the token count.
    public func observe(
        _ sequences: [ArraySlice<UInt32>], in model: LanguageModel, batch: Int, observer: any WorkflowObserver
    ) -> Int {
        let longest = sequences.map(\.count).max() ?? 0
        let batch = min(batch, sequences.count)
        let workspace = Workspace(model, maximumTokens: batch * longest, longestSequence: longest)
        let total = sequences.reduce(0) { $0 + $1.count }
        observer.phase("forward and moments", unit: "tokens", total: total) { report in
            var done = 0
            for start in stride(from: 0, to: sequences.count, by: batch) {
                let tokens = TokenBatch(Array(sequences[start..<min(start + batch, sequences.count)]))
                model.forward(tokens, in: workspace, blocks: blocksNeeded, observer: self)
                done += tokens.count
                report(done)
            }
        }
        return total
    }
}
