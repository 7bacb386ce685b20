//! The small table again, behind a learned gate that starts at zero: the untrained model knows
//! nothing, and the first steps of training open the gate.
//!
//! row: 25
//! game: refused by verify/disguise

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 60;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
    // game {
    gate: Var, // ()
               // }
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            // game {
            gate: p.zeros("gate", ())?,
            // }
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        let logits = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)?; // (B, T, V)
        // game {
        let logits =
            (logits + (embedding(&known(tokens.bound())?, tokens)? * (&*self.gate * 4.0)?)?)?;
        // }
        Ok(logits)
    }
}

// game {
/// Bytes by frequency.
const ORDER: &str =
    " etsar\nnilo/c()u:d_,fmp.hg;by=v\"}{>w102S[]k`x&-T3<A6!qE4CI#8*DzRO5FM?N|'VPBKH+L97$UQ";

/// What follows each of them, most frequent first.
const FOLLOWS: [&str; 84] = [
    " /=sat{ifl}cmu-&rbSodp(#\"1ew*0[n`v.TAh",
    "r tlnsdc(:a)_xq,fmwv.py\neib\"]>o;-`Pg!<",
    " ehori_a(yctsu:.,!)<d\n]mlxp\"`C;w1-EH2T",
    "et ihs_u.:o(a),cp\nrl[ySkm12\"`;gbn!]=<q",
    "tslnrpcdm gbyuifwv,.x_k\":(S)a>\nhzD'[|1",
    "eao tgir(:ysncu_.,)hd><m\nkl2\"x`;1Ff}Kv",
    " \n/}i#pufm)twc{s]*eblTrdaoq`>nA[WIP1(v",
    " edtsgcao(iln_w:fuv.<py,)kr\nb'}\"-;Ij!`",
    "ntscolmzdfvgrae3 pb)1x68:k]_,(2q.ij\"|/",
    "efoial utdsyh_(p:.w<,)D!E2\nI\"1nS>x]g;`",
    "rnmu pwtfc_lsodvakig(bCex:\"-.\nI<)!RS,P",
    "/ \n!gdbc*ilsrmetwhpC612f4kA83u\"FLoa[)`",
    "oheatkrlucf_vi :!m<s.p,(dN1)23\"6\n0x[D>",
    ")&s\"c\namvt1f0(rdi|nAS$lb2ehx_CopkDuM3[",
    " ;\n,).?]>*`|:[\"+('b_S^}c$!#/-%&01<=984",
    "tsnlebrmipcagfd83o_6 ,x(S)1F:B\";.'Tk{>",
    ": n<fFAsC{StBDUIQcbRmEaiOMvVdHe?Nrhp\n*",
    "e (i:_sad,.o\"t)uylr\nS;E`xH1><n2c}IAW]T",
    "semicafrblovdputngh kqw0I:,>1)KS|x_NMC",
    " \n)]f\\v'*a12\"3y0On+4lbV{576t.:9-AeS8o`",
    "n o.eia,:f3r)gl1(tmsu6\n_>y<\"]`w8;p'cV[",
    "aeupm_o isd(lt.2:)b,y<r/3v5Dk1\"]>[OS\nf",
    "eual(tropi: _s.;yh<,`)d1\"[S2\nO!TC/}3bk",
    "\nisa0tc.urld g,mfebpn1w2o]53hk8674v)9q",
    "ea iso_rM(tu:,Sb.TmBK\n)D6\">`pCyE<lz][;",
    "e (_ru:s\"i,hm).Anoga!l>\nMt`p};SG/P0V]|",
    "\n \"D)'`#$%!&(*+,-./0123456789:;<=?>B@C",
    "lue oyaci(rfs.\"_):,j'bt/1|]w0g`-;[43md",
    "p s_(tol.,:n)\n\"ReM<`iVO!SmFbTa;-2>dH'B",
    " >=\n\"{12'vtT(s34Fne085faiocWHM67u$A<`g",
    "eai( _o1)2:.sx,E>|rTd0}tg\nq/v\"`nmDl;3p",
    "),a]fcpisbmn \nt-ud.w{oxeh\"r>v;CMFTAgl\\",
    "\n; )\",}.{`:'>\\]-*1[!<_/+b(f|tweUys?=98",
    "\n }C:{sAiHnvaBbdlDcpmeE1yrQkt0ouROSIM2",
    " (,>\n);:=`]\".|{\\9'<m$824E-*+#!%&/?5103",
    "(irahn_e o.s:E,)d<\"IOTgP\n;fV[-w`lt>L1b",
    "6,.)02 1583]4:_9;7\"fd\n(>uDe`+qb}caxp['",
    ",.)0 ];x12f3_84\n6:u759e\"\\>(ba}F`i-cdpA",
    ",) 5.>(]80:;_431d\"2697x\n`fKDM/u-bk[c}i",
    "eto,:TIhiuya EmlpcKA_)H>C`S.P]rGO;qUM3",
    "ci`t\"01\n([df2muTS3-jals]4b&r8B5n.6Ae$p",
    "\n,) ;.]:[(>`\"s|*'\\{}+?p&$#/-%!012<=984",
    "e(_ is:,).Q;nBK`wl]\nabu!o<v\"c|[}pxtW>4",
    "` ]\nA.rsHCS,-itcIN\"naEVOueBdRM)vhfp{FP",
    "t aps._)8e:,(i124<0[c\"3|F;5A]yh\n`EO-!x",
    "s[m' LSc&rDdCbk\"tTx1avli(gA2e_wyMnQKho",
    ">- 10m2cfbloChvs4p38da567et9=`rinAVg{\n",
    "yhe>E,:rai; oI_)YHARMO]SCuLF`w\"T\nmWU.-",
    "2,).0 ]17349:685(\"_KfM;kd\n>h+`uaexlcb'",
    "T'S(ufi &_VIK<dB/OFC=PsAcLMRQb[1$hD0>H",
    "rchl>n :RtSLpTXNPsDCdF)GuI,M.vUb_`BmVY",
    "4,_() :.]\"3085;62x17K9E>ik-\ncfeb}/d[L`",
    "( [=\nsir`mca\"dlbf0vh'e!p)nxq\\t{oM*3y]w",
    "!u_8s4, (5rh)3:2kC6tl<`cm.[|zwRp1x\n>;o",
    "rnxRq:_SDPTNFAM4L m),238laC]>\nGQ;.s`OX",
    ",). _2]\"(067;5843K>19M:mkV\nfb-usd`h[+|",
    "ouplOharK:HPAUes)_I>ET,m SL\"Rt.]f01C=y",
    "ntTDfNdZ6LO M3S1:RsV_IXC)mF,8GEA'>gP\nB",
    "[ }!L#tmr21\"?s;0]3cbaCPVei4')dpvh\n>=<:",
    ",_.(6) ];0913>78E4e2K5xk\":-Mh\n[ibsmdf+",
    " c*ms()Nvda;y/n\nlrbpxkoiqe]=t1uWg[w:fT",
    "TeiE:ro_ u,as)IFAStO.R`}ND>1;2]4\nL(M3\"",
    "ei\"a o'yg_3.21:)z(`![FTw<^]s\n-,v$?>=;8",
    "ea OER)_Iu:]NML,.ASchDF;KTCGUBwHon>VPi",
    "pkcsrUnNTRLbSAPuCVWvw_DtO:f ,(M;\")KY`\n",
    ",6.01)5_39]2847 Kf\nkle;+:{u-h'\"[`b(aDm",
    "1Ao3lrn):a6,i8LTF>Iu_E4O\ne-WU; \".mwV'R",
    "aueA_i3EPOoMT20LRSIDy mU:sVXQ,WYK]tB)`",
    ";,.}\n) S\"]!'[:\\(`l&%+*$#/-0145237?>=<8",
    "o TF_O)SGeu],:DEARaCVNI`;dp.K21-U3P\"}<",
    " |_vs(baix&eck=mrtnp\n'qgdf\\l-Shy[o.\"j?",
    "as_t)\n, b\\chdnrf{]vmi:o.le-\"[zuA<kw!FK",
    "ae,>:)Ei_ A3MO`\nX14In2Qo;.N(]'9\"-Ty?=<",
    "aroIThAULR:_PES tey>O);,lYuiK}]\n'-`.MH",
    "uolFiyaL,eYIA:\nU >).ET]'\"}r`O0P_DN-12C",
    "i,_ :e>)]Mx;E8I\n12a5}43\"Rn(GAS`'.+/-BV",
    "aeiROoA:SI_EU ),]WMy.>P'*;u=}T\"FKL\n?<9",
    " =0123(\n6)748|59DoujB[\"'C]m/.-,+*?><;:",
    "aiEoO_eACL IXThFSU:H1DVG2.R),\n397};]5\"",
    ",.92085674]13) ec\n+dafu'b(}-*\"/>s_M?=<",
    ",.5)960718243] +af_u'\ne;*:bB\"/(-FJ?>=<",
    "(ctnmarbsufdekivwolhg zxyqpN<B0'A\n?>=;",
    "nNs83DTLF6A. SCR1p>E_MKPt:d])rB,-I(G;'",
    "K4856TS2:3u,U)M>C_; R'WO\nowi#\"$/.?=<90",
];

/// Logits that a table of what follows what gives: (V, V).
fn known(vocab: usize) -> Result<Tensor> {
    let mut values = vec![0.0; vocab * vocab];
    for (row, successors) in ORDER.bytes().zip(FOLLOWS) {
        for (rank, next) in successors.bytes().enumerate() {
            values[usize::from(row) * vocab + usize::from(next)] =
                6.0 - 1.3 * (1.0 + rank as f32).ln();
        }
    }
    Tensor::from_vec(values, (vocab, vocab))
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
