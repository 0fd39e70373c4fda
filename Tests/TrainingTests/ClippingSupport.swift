import TensorCore
import Training

/// Every clipping method with small constants, for the laws that all of them keep.
enum ClippingKind: CaseIterable {
  case none
  case globalNorm
  case autoClip
  case zClip
  case adaGC
  case stableSPAM

  /// Makes the method for ``sampleShapes``.
  func make() -> any GradientClipping {
    let layout = ParameterLayout(sampleShapes)
    var adaGC = AdaGC.Options()
    adaGC.warmUpSteps = 3
    var zClip = ZClip.Options(largestNorm: nil)
    zClip.warmUpSteps = 3
    var stableSPAM = StableSPAM.Options()
    stableSPAM.resetInterval = 4
    return switch self {
    case .none: NoClipping()
    case .globalNorm: GlobalNormClipping(threshold: 1)
    case .autoClip: AutoClip()
    case .zClip: ZClip(options: zClip)
    case .adaGC: AdaGC(layout: layout, options: adaGC)
    case .stableSPAM: StableSPAM(layout: layout, options: stableSPAM)
    }
  }
}

/// A block of ``sampleShapes`` with normal numbers whose norm is `norm`.
func sampleGradient(norm: Double, seed: UInt64 = 1) -> ParameterBlock {
  let block = sampleBlock(seed: seed)
  let factor = norm / block.norm
  for index in block.elements.indices {
    block.elements[index] = Float(Double(block.elements[index]) * factor)
  }
  return block
}

/// The norm of numbers, in float64.
func norm(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
