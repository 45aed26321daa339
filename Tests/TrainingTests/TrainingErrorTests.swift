import Testing

@testable import Training

@Suite("What a training error says")
struct TrainingErrorTests {
    @Test func namesPlaceFoundAndExpected() {
        let error = TrainingError.data(name: "novel.u16", found: "3 tokens", expected: "at least 257")
        #expect("\(error)" == "novel.u16: found 3 tokens, expected at least 257")
    }
}
