import Datasets
import GraphIR
import Preprocessing
import TensorCore

extension PairSet {
  /// Reads the images of `dataset` with what they are to be told apart by: their classes where the
  /// data have some, otherwise their captions.
  ///
  /// Images that cannot be read are named and left out.
  init(
    _ dataset: Dataset, prompts: Prompts, for opened: OpenedModel, threadCount: Int
  ) throws {
    let extents = try opened.imageExtents()
    let tokenizer = try opened.tokenizer()
    // Names of classes may be there for other data: the first image says what these have.
    var isZeroShot = !dataset.classNames.isEmpty
    var isFirst = true
    var pixels: [Float] = []
    var targets: [Int] = []
    var captions: [String: Int] = [:]
    var texts: [[Int32]] = []
    try ImagePipeline.forEachDecoded(
      dataset, threads: threadCount, transform: try ModelInputs.pixelFunction(opened)
    ) { sample, result in
      guard case .success(let values) = result else {
        if case .failure(let error) = result {
          Terminal.warn("\(sample.name): skipped, \(error)")
        }
        return
      }
      if isFirst { isZeroShot = isZeroShot && sample.classIndex != nil }
      isFirst = false
      if isZeroShot {
        guard let index = sample.classIndex else { return }
        guard index < dataset.classNames.count else {
          throw Failure(
            .malformedInput,
            "class index \(index) has no name: there are \(dataset.classNames.count) classes")
        }
        targets.append(index)
      } else {
        guard let caption = sample.caption else { return }
        if captions[caption] == nil {
          captions[caption] = texts.count
          texts.append(tokenizer.ids(of: caption))
        }
        targets.append(captions[caption] ?? 0)
      }
      pixels += values
    }
    guard !targets.isEmpty else {
      throw Failure(
        .malformedInput, "\(dataset.path): no image with a class or a caption could be read")
    }
    var candidates = texts.indices.map { [$0] }
    if isZeroShot {
      candidates = dataset.classNames.map { name in
        prompts.prompts(for: name).map { prompt in
          texts.append(tokenizer.ids(of: prompt))
          return texts.count - 1
        }
      }
    }
    guard candidates.count > 1, Set(targets).count > 1 else {
      throw Failure(
        .malformedInput,
        "\(dataset.path): all images are of one \(isZeroShot ? "class" : "caption"), so there is "
          + "nothing to tell apart; expected two or more")
    }
    self.init(
      task: isZeroShot ? .zeroShot : .retrieval,
      pixels: Tensor(shape: [targets.count] + extents, pixels), texts: texts,
      candidates: candidates, targets: targets)
  }
}
