import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Training

/// A form with the blocks of a step, without a trainer.
struct StepFixture {
  let form: any TrainedForm
  let weights: ParameterBlock
  let used: ParameterBlock
  let gradients: ParameterBlock
  let controls: ParameterBlock
  let controlGradients: ParameterBlock
  let optimizer: AdamW

  init(_ form: any TrainedForm) {
    self.form = form
    func block(_ names: [String]) -> ParameterBlock {
      let tensors = names.compactMap { name in
        form.graph.parameter(named: name).map { (name: name, tensor: $0.materialized) }
      }
      let block = ParameterBlock(tensors.map { ($0.name, $0.tensor.shape) })
      for (entry, tensor) in zip(block.entries, tensors) { block.set(entry, tensor.tensor) }
      return block
    }
    weights = block(form.weights)
    controls = block(form.controls.map(\.name))
    used = ParameterBlock(like: weights)
    gradients = ParameterBlock(like: weights)
    controlGradients = ParameterBlock(like: controls)
    optimizer = AdamW(layout: weights.layout)
  }

  func context(_ step: Int) -> StepContext {
    StepContext(
      step: step, weights: weights, used: used, controls: controls, gradients: gradients,
      controlGradients: controlGradients, optimizer: optimizer)
  }

  func fillGradients(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    for index in gradients.elements.indices {
      gradients.elements[index] = Float(random.nextNormal())
    }
  }
}

/// A trainer of `form` with the teacher of seed 1.
func sparseTrainer(
  _ form: any TrainedForm, steps: Int, average: Double? = nil, weightDecay: Double = 0.05
) throws -> Trainer {
  let teacher = try RandomCLIP().graph(seed: 1)
  var options = UpdateOptions()
  options.schedule = LearningRateSchedule(.constant, peak: 2e-3)
  options.averageDecay = average
  options.weightDecay = weightDecay
  return try Trainer(
    form, Objective(losses: .affinity, teacher: .graph(teacher)), options: options,
    totalSteps: steps, seed: 3, threadCount: 2)
}

/// The batch of a step.
func sparseInputs(_ step: Int) -> [String: Tensor] {
  RandomCLIP().inputs(seed: UInt64(step), items: 6)
}

/// The mask of each prunable weight; ones where there is none.
func prunableMasks(_ graph: Graph) -> [(name: String, mask: [UInt8])] {
  graph.prunableWeights(of: Tower.allCases).map { value in
    let parameter = graph.parameter(value)
    let count = parameter?.tensor.count ?? 0
    return (
      graph.name(of: value),
      parameter?.mask?.elements(of: UInt8.self) ?? [UInt8](repeating: 1, count: count)
    )
  }
}
