import Datasets
import Foundation
import Preprocessing
import Synchronization
import TensorCore
import Testing

@Suite struct TrainingCaptionsTests {
  let folder: TemporaryFolder
  let file: [UInt8]

  init() throws {
    folder = try TemporaryFolder()
    file = try #require(ImageFixture.png.first).file
  }

  private func batches(
    _ dataset: Dataset, _ batchCount: Int, captions: TrainingCaptions? = nil
  ) throws -> TrainingBatches {
    var options = TrainingBatches.Options(batchCount: batchCount)
    options.threads = 2
    return try TrainingBatches(
      dataset: dataset, options: options, transform: TrainingData.transform,
      captions: captions ?? TrainingData.captions(dataset.classNames))
  }

  @Test func classesFillTemplates() throws {
    let data = try TrainingData()
    let file = try folder.write("templates.txt", "a {}\nthe long {}, seen from afar\n{}\n")
    let prompts = try Prompts(file: file)
    let captions = TrainingData.captions(data.dataset.classNames, prompts: prompts)
    var chosen: [Int: Set<String>] = [:]
    for batch in try batches(data.dataset, data.count, captions: captions).take(12) {
      let texts = batch.texts()
      let longest = texts.map { $0?.utf8.count ?? 0 }.max() ?? 0
      #expect(batch.tokens.shape == [data.count, longest + 2])
      for (index, text) in zip(batch.sampleIndices, texts) {
        let text = try #require(text)
        let classIndex = try #require(data.dataset.sample(at: index).classIndex)
        let name = ["ant", "big bee", "cat"][classIndex]
        #expect(prompts.prompts(for: name).contains(text))
        chosen[index, default: []].insert(text)
      }
    }
    // 12 epochs leave a sample with one of three templates once in 177 147 times.
    #expect(chosen.count == data.count && chosen.values.allSatisfy { $0.count > 1 })
  }

  @Test func tablesHaveTheirOwnCaptions() throws {
    for index in 0..<3 { try folder.write("\(index).png", file) }
    // Two captions of an image are two samples.
    let table = try folder.write(
      "data.csv", "filepath,title\n0.png,zero\n1.png,one\n2.png,number two\n0.png,nought\n")
    let dataset = try Dataset.open(path: table)
    let expected = ["zero", "one", "number two", "nought"]
    for batch in try batches(dataset, 4).take(3) {
      #expect(batch.texts() == batch.sampleIndices.map { expected[$0] })
      #expect(batch.classIndices == nil)
      #expect(batch.tokens.shape == [4, 12])
    }
  }

  @Test func shardsMixCaptionsAndClasses() throws {
    var tar = TarBuilder()
    for (key, text) in [("a", "a red square"), ("b", nil), ("c", "a blue one")] {
      tar.add("\(key).png", file)
      if let text { tar.add("\(key).txt", Array(text.utf8)) }
      tar.add("\(key).cls", Array("1".utf8))
    }
    let classes = try folder.write("classes.txt", "dog\ncat\n")
    let dataset = try Dataset.open(
      path: folder.write("x.tar", tar.archive), classesFile: classes)
    let expected = ["a red square", "a photo of a cat.", "a blue one"]
    for batch in try batches(dataset, 3).take(3) {
      #expect(batch.sampleIndices.sorted() == [0, 1, 2])
      #expect(batch.texts() == batch.sampleIndices.map { expected[$0] })
      #expect(batch.classIndices == [1, 1, 1])
    }
  }

  @Test func samplesWithoutWordsAreNamed() throws {
    let path = try folder.write("lonely.png", file)
    for names in [[], ["cat"]] {
      let captions = TrainingData.captions(names)
      let run = try batches(.files([path]), 1, captions: captions)
      for _ in 0..<2 {
        expectDataError(.malformed, "lonely.png", "caption", "class") { _ = try run.next() }
      }
    }
    let silent = TrainingCaptions(text: { _, _ in "x" }, tokenize: { _ in [] })
    let run = try batches(.files([path]), 1, captions: silent)
    expectDataError(.malformed, "lonely.png", "one token") { _ = try run.next() }
  }

  @Test func textsAreTokenizedOnceAndErrorsPassThrough() throws {
    struct Wrong: Error {}
    let data = try TrainingData()
    let seen = Mutex<[String: Int]>([:])
    let counted = TrainingCaptions(
      classNames: data.dataset.classNames,
      tokenize: { text in
        seen.withLock { $0[text, default: 0] += 1 }
        return TrainingData.ids(text)
      })
    _ = try batches(data.dataset, 5, captions: counted).take(20)
    // Two threads may both be the first to meet a text.
    #expect(seen.withLock { $0.count == 3 && $0.values.allSatisfy { $0 <= 2 } })
    let failing = TrainingCaptions(text: { _, _ in throw Wrong() }, tokenize: { _ in [1] })
    let run = try batches(data.dataset, 5, captions: failing)
    #expect(throws: Wrong.self) { try run.next() }
  }

  @Test func chosenTextsDrawFromSampleAndEpoch() throws {
    let data = try TrainingData()
    let drawing = TrainingCaptions(
      text: { _, generator in "\(generator.next())" }, tokenize: { TrainingData.ids($0) })
    let run = try batches(data.dataset, data.count, captions: drawing).take(3)
    let again = try batches(data.dataset, data.count, captions: drawing).take(3)
    #expect(run == again)
    #expect(Set(run.flatMap { $0.texts() }).count == 3 * data.count)
  }
}
